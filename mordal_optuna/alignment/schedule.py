"""The learning rate, and what a rung's score is of.

Symbols:
    D    samples of a full alignment
    s    samples seen, the present batch included
    w    warmup_samples
    c    cooldown, a branch's length as a share of its rung
    t    optimiser steps so far
    g    exponent of the average

Rate / learning_rate:
    warm-up    min(1, s / w)
    linear     times (D - s + B) / D: what is left before the batch
    branch     times (end - s + B) / (end - start), from 1 to nearly 0

The average of weights is that of Karras et al. 2024 ("Analyzing and improving the training
dynamics of diffusion models", eq. 2): average += (1 - (1 - 1/t)^(g + 1)) (weights - average).
Its profile over time is a power law, so its width stays the same share of the training, whatever
the rung; a width of .1 is g = 6.94.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mordal_optuna.config import AlignmentSettings


@dataclass(frozen=True)
class Branch:
    """A cool-down: the rate falls to nearly 0.

    Attributes:
        start: samples where it leaves the trunk.
        end: the rung it leads to.
    """

    start: int
    end: int


def rate(
    settings: AlignmentSettings, seen: int, full_samples: int, branch: Branch | None
) -> float:
    """The learning rate of a step.

    Args:
        settings: the recipe.
        seen: s.
        full_samples: D.
        branch: the cool-down that the step belongs to; None on the trunk.
    """
    factor = min(1.0, seen / max(1, settings.warmup_samples))
    left = settings.batch_size - seen
    if settings.schedule == "linear":
        factor *= (full_samples + left) / full_samples
    if branch:
        factor *= (branch.end + left) / (branch.end - branch.start)
    return settings.learning_rate * factor


def branch_to(settings: AlignmentSettings, rung: int) -> Branch | None:
    """The cool-down that leads to a rung; None where the recipe has none."""
    if settings.schedule != "cooldown":
        return None
    batches = max(1, round(settings.cooldown * rung / settings.batch_size))
    return Branch(max(0, rung - batches * settings.batch_size), rung)


class Average:
    """A running average of the trained weights."""

    def __init__(self, width: float, weights: Mapping[str, torch.Tensor]) -> None:
        """Start at the present weights.

        Args:
            width: standard deviation of the averaged positions as a share of the training.
            weights: averaged, by name.
        """
        self._exponent = exponent_of(width)
        self.weights = {name: value.detach().clone() for name, value in weights.items()}

    def update(self, weights: Mapping[str, torch.Tensor], step: int) -> None:
        """Take in the weights after a step.

        Args:
            weights: by name.
            step: t, from 1.
        """
        share = 1.0 - (1.0 - 1.0 / step) ** (self._exponent + 1.0)
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.weights.values()), [weights[n].detach() for n in self.weights], share
            )


def exponent_of(width: float) -> float:
    """G for a width: the largest root of g^3 + 7 g^2 + (16 - width^-2) g + 12 - width^-2.

    Karras et al. 2024, appendix C.
    """
    inverse = width**-2
    roots = np.roots([1.0, 7.0, 16.0 - inverse, 12.0 - inverse])
    return float(max(root.real for root in roots if math.isclose(root.imag, 0.0, abs_tol=1e-9)))
