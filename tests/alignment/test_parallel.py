"""Accelerate as it is opened, and sums over ranks; two real ranks are in `test_train`."""

from __future__ import annotations

import pytest
import torch
from accelerate import DistributedType
from accelerate.state import PartialState

from mordal_optuna.alignment.parallel import is_sharded, open_accelerator, sum_over_ranks
from mordal_optuna.errors import ConfigError


def test_an_unknown_tracker_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"runtime.trackers: got \['nosuch'\]"):
        open_accelerator(torch.device("cpu"), ["nosuch"])


def test_a_distributed_type_that_is_not_supported_is_refused(
    monkeypatch: pytest.MonkeyPatch, cpu: torch.device
) -> None:
    open_accelerator(cpu)
    monkeypatch.setitem(PartialState._shared_state, "distributed_type", DistributedType.XLA)
    with pytest.raises(ConfigError, match="distributed_type is XLA; .* and FSDP are supported"):
        open_accelerator(cpu)


def test_a_single_process_sums_nothing_and_shards_nothing(cpu: torch.device) -> None:
    accelerator = open_accelerator(cpu)
    parameter = torch.nn.Parameter(torch.ones(2))
    numbers = torch.tensor([1.0, 2.0])
    assert sum_over_ranks(accelerator, [parameter], numbers) is numbers
    assert parameter.grad is None
    assert not is_sharded(accelerator)
