"""Checkpoints of a few numbers, and claims under which they are written."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from mordal_optuna.alignment.checkpoint import Checkpoint
from mordal_optuna.alignment.files import CheckpointFiles
from mordal_optuna.alignment.train import TrunkState
from mordal_optuna.errors import LeaseLostError
from mordal_optuna.processes.guard import Token

if TYPE_CHECKING:
    from pathlib import Path

    from mordal_optuna.alignment.manifests import Manifest


def checkpoint(samples: int, *, trunk: int | None = None, averaged: bool = False) -> Checkpoint:
    """A checkpoint whose scored weights differ from the trunk's if it has a cool-down."""
    weights = {"w": torch.arange(4.0)}
    optimizer = {"w/exp_avg": torch.ones(4), "w/step": torch.tensor(3.0)}
    scored = {"w": torch.arange(4.0) + samples}
    apart = averaged or trunk is not None
    state = TrunkState(trunk or samples, weights, optimizer, scored if averaged else None)
    return Checkpoint(samples, scored if apart else weights, state, 1.5, {"torch": "2"})


def other_numbers(samples: int) -> Checkpoint:
    """A checkpoint of the same rung with other weights."""
    return replace(checkpoint(samples), trained={"w": torch.zeros(4)}, candidate="other")


class Held:
    """A claim of a trial, which may be lost."""

    def __init__(self, trial: int, study: str = "s", *, lost: bool = False) -> None:
        self.token = Token(study, trial)
        self.failure = LeaseLostError("a + b") if lost else None

    def check(self) -> None:
        """Raise if it is lost."""
        if self.failure:
            raise self.failure


def kept(folder: Path, samples: int) -> Manifest:
    """Manifest of a rung of the only run in a folder."""
    files = CheckpointFiles(folder / "checkpoints")
    (run,) = files.runs()
    return files.manifest(run, samples)
