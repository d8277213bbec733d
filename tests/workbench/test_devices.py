"""Devices: what a study file may name."""

from __future__ import annotations

import pytest

from mordal_optuna.errors import ConfigError
from mordal_optuna.workbench.devices import find_device, join_launch


def test_a_device_is_found_by_its_name_or_automatically() -> None:
    assert find_device("cpu").type == "cpu"
    assert find_device("auto").type


@pytest.mark.parametrize("name", ["nosuch", "cuda:99"])
def test_a_device_that_torch_cannot_use_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"runtime.device: got '{name}'; torch cannot use it"):
        find_device(name)


def test_without_a_launcher_there_is_one_rank() -> None:
    launch = join_launch("cpu")
    assert (launch.device.type, launch.processes.world_size) == ("cpu", 1)
