"""Runs in trackers are named by study and pair, and get what is known of each rung."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from mordal_optuna.alignment.machine import Machine
from mordal_optuna.alignment.parallel import open_accelerator
from mordal_optuna.alignment.tracking import TrackedRun, names_in

if TYPE_CHECKING:
    from pathlib import Path


def test_runs_are_named_by_study_and_pair() -> None:
    """In W&B and MLflow the study is the project; TensorBoard's folder keeps its name."""
    project, options = names_in(("wandb", "mlflow"), "s", "clip + llama")
    assert project == "s"
    assert options == {
        "wandb": {"name": "s/clip + llama", "group": "s"},
        "mlflow": {"run_name": "s/clip + llama"},
    }
    assert names_in(("tensorboard",), "s", "clip + llama") == ("s-clip-llama", {})
    assert names_in(("tensorboard", "wandb"), "s", "clip + llama")[0] == "s-clip-llama"


def opened(machine: Machine) -> TrackedRun:
    accelerator = open_accelerator(machine.device, machine.trackers, machine.logs)
    return TrackedRun(accelerator, machine, "clip + llama", lambda: "address")


def test_numbers_of_a_rung_are_in_tensorboards_files(tmp_path: Path) -> None:
    """Also of a rung that was found and not trained, so that nothing has opened the run."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    machine = Machine(
        torch.device("cpu"), trackers=("tensorboard",), project="s", logs=str(tmp_path)
    )
    run = opened(machine)
    run.log({"score/gqa": 0.5, "rank": 2}, 8)
    run.log({"score/gqa": 0.75}, 16)
    run.close()
    events = EventAccumulator(str(tmp_path / "s-clip-llama"))
    events.Reload()
    found = {
        tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in ("score/gqa", "rank")
    }
    assert found == {"score/gqa": [(8, 0.5), (16, 0.75)], "rank": [(8, 2.0)]}


def test_without_trackers_nothing_is_written(tmp_path: Path) -> None:
    run = opened(Machine(torch.device("cpu"), logs=str(tmp_path)))
    run.open()
    run.log({"score": 0.5}, 8)
    run.close()
    assert not list(tmp_path.iterdir())
