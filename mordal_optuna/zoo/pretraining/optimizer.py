"""The optimiser of all pretraining: Muon for hidden matrices, AdamW for all other parameters.

Muon (Jordan 2024) reaches in tens of seconds on one core what takes AdamW minutes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

_WEIGHT_DECAY = 0.01
_MAX_NORM = 1.0


@dataclass(frozen=True)
class Schedule:
    """Learning rates: linear warm-up over a tenth of the steps, then cosine decay to 5 %.

    Attributes:
        steps: number of optimiser steps.
        rate: peak learning rate of AdamW.
        muon_rate: peak learning rate of Muon.
    """

    steps: int
    rate: float
    muon_rate: float = 0.02


class Optimizer:
    """Muon and AdamW behind one step."""

    def __init__(
        self, named_parameters: Iterable[tuple[str, torch.nn.Parameter]], schedule: Schedule
    ) -> None:
        """Create the optimiser.

        Args:
            named_parameters: parameters with their names; matrices with `layer` in their name
                are optimised by Muon, all others by AdamW.
            schedule: learning rates.
        """
        parameters = dict(named_parameters)
        hidden = [p for name, p in parameters.items() if p.ndim == 2 and "layer" in name]
        hidden_ids = {id(p) for p in hidden}
        others = [p for p in parameters.values() if id(p) not in hidden_ids]
        muon = torch.optim.Muon(hidden, lr=schedule.muon_rate, weight_decay=_WEIGHT_DECAY)
        adam = torch.optim.AdamW(others, lr=schedule.rate, betas=(0.9, 0.98), weight_decay=0.0)
        self._parameters = list(parameters.values())
        self._steps = schedule.steps
        self._done = 0
        self._parts = ((muon, schedule.muon_rate), (adam, schedule.rate))

    def step(self) -> None:
        """Clip gradients, update parameters, clear gradients."""
        torch.nn.utils.clip_grad_norm_(self._parameters, _MAX_NORM)
        warm = min(1.0, (self._done + 1) / max(1, self._steps // 10))
        decay = 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * self._done / self._steps))
        for optimizer, peak in self._parts:
            for group in optimizer.param_groups:
                group["lr"] = peak * warm * decay
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self._done += 1
