"""Accelerate as it is opened, and sums over ranks; two real ranks are in `test_train`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from accelerate import DistributedType
from accelerate.commands import launch
from accelerate.state import PartialState

from mordal_optuna.alignment.parallel import is_sharded, open_accelerator, sum_over_ranks
from mordal_optuna.errors import ConfigError
from tests.alignment import trainer


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


CONFIG = """\
compute_environment: LOCAL_MACHINE
distributed_type: 'NO'
mixed_precision: fp16
num_processes: 1
use_cpu: true
"""


@pytest.mark.slow
def test_accelerates_configuration_changes_neither_loss_nor_gradients(
    zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recipe alone says how samples are accumulated, and in which precision.

    `accelerate launch` runs inside this process, and starts the trainer in another one. It hands
    on the precision of its configuration. Accumulation it hands on for DeepSpeed only, but a
    variable of the environment, which Accelerate reads first, may hold it at any time.
    """
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG)
    launched = tmp_path / "launched"
    launched.mkdir()
    script = str(Path(__file__).with_name("trainer.py"))
    given = [str(zoo), str(zoo / "alignment" / "alignment.json")]
    options = ["--config_file", str(config)]
    monkeypatch.setattr(
        sys, "argv", ["accelerate launch", *options, script, *given, str(launched), "1"]
    )
    with monkeypatch.context() as environment:
        environment.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
        launch.main()
    monkeypatch.setattr(sys, "argv", [script, *given, str(tmp_path), "1"])
    trainer.main()
    for name in ("losses.json", "norms.json"):
        found, expected = (
            json.loads((folder / name).read_text()) for folder in (launched, tmp_path)
        )
        assert len(expected) == 4
        assert found == pytest.approx(expected, rel=1e-6)
