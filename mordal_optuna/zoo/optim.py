"""The optimiser of all pretraining here: Muon on hidden matrices, AdamW on the rest.

Muon (Jordan 2024) reaches in tens of seconds on one core what AdamW takes minutes for.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

MUON_RATE = 0.02
_WEIGHT_DECAY = 0.01
_MAX_NORM = 1.0


class Optimizer:
    """Both optimisers behind one step, with linear warm-up and cosine decay."""

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, torch.nn.Parameter]],
        *,
        rate: float,
        steps: int,
        muon_rate: float = MUON_RATE,
    ) -> None:
        """Optimise.

        Args:
            named_parameters: matrices inside `layers` get Muon, everything else AdamW.
            rate: peak rate of AdamW.
            steps: length of the schedule.
            muon_rate: peak rate of Muon.
        """
        parameters = dict(named_parameters)
        hidden = [p for name, p in parameters.items() if p.ndim == 2 and "layer" in name]
        inside = {id(p) for p in hidden}
        others = [p for p in parameters.values() if id(p) not in inside]
        self._parameters = list(parameters.values())
        self._steps = steps
        self._done = 0
        self._parts = (
            (torch.optim.Muon(hidden, lr=muon_rate, weight_decay=_WEIGHT_DECAY), muon_rate),
            (torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.98), weight_decay=0.0), rate),
        )

    def step(self) -> None:
        """Clip, update, clear gradients."""
        torch.nn.utils.clip_grad_norm_(self._parameters, _MAX_NORM)
        warm = min(1.0, (self._done + 1) / max(1, self._steps // 10))
        decay = 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * self._done / self._steps))
        for optimizer, peak in self._parts:
            for group in optimizer.param_groups:
                group["lr"] = peak * warm * decay
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self._done += 1
