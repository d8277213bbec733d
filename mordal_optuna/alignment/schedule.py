"""The learning rate of each step, and the running average of weights.

Symbols:
    B    samples of a global batch
    D    samples of a full alignment
    s    samples seen, including the present batch
    P    samples of the projector's stage, 0 without one
    w    warmup_samples; of the projector's stage, the same share: w P / (D - P)
    c    cooldown, a branch's length as a share of its rung
    t    optimiser steps so far
    g    exponent of the average

Rate / learning_rate, in a stage of n samples of which s are seen: n = P, then n = D - P, and D
without a projector's stage.
    warm-up    min(1, s / w)
    linear     times (n - s + B) / n, the share of n that is left before the batch
    cosine     times (1 + cos(pi max(0, s - B - w) / (n - w))) / 2
    branch     times (end - s + B) / (end - start), from 1 to nearly 0

The average of weights is that of Karras et al. 2024 ("Analyzing and improving the training
dynamics of diffusion models", eq. 2): average += (1 - (1 - 1/t)^(g + 1)) (weights - average).
The average's weights over time are a power law, so its width is the same share of the training at
every rung; a width of 0.1 is g = 6.94.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from mordal_optuna.config.alignment import stage_samples
from mordal_optuna.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mordal_optuna.config import AlignmentSettings


# The exponent is 0 at a width of 0.289, and negative above.
_WIDEST = 0.28


@dataclass(frozen=True)
class Branch:
    """A cool-down: a branch of the training in which the learning rate falls to nearly 0.

    Attributes:
        start: number of samples at which it leaves the trunk.
        end: number of samples of the rung at which it ends.
    """

    start: int
    end: int


@dataclass(frozen=True)
class Rates:
    """Learning rates of a step.

    Attributes:
        projector: that of the projector.
        lora: that of LoRA; None where the projector alone is trained.
    """

    projector: float
    lora: float | None


def rates(
    settings: AlignmentSettings, seen: int, full_samples: int, branch: Branch | None
) -> Rates:
    """The learning rates of a step.

    Args:
        settings: alignment recipe.
        seen: s, the number of samples seen, including the present batch.
        full_samples: D, the number of samples of a full alignment.
        branch: cool-down that the step belongs to; None on the trunk.
    """
    stage, first = settings.projector_stage, first_stage(settings, full_samples)
    alone = stage is not None and seen <= first
    size, warmup = full_samples - first, float(settings.warmup_samples)
    if alone:
        size, warmup = first, warmup * first / size
    start = 0 if alone else first
    factor = _factor(settings, seen - start, size, warmup)
    if branch:
        factor *= (branch.end + settings.batch_size - seen) / (branch.end - branch.start)
    if stage and alone:
        return Rates(factor * stage.learning_rate, None)
    peak = settings.projector_learning_rate or settings.learning_rate
    return Rates(factor * peak, factor * settings.learning_rate)


def first_stage(settings: AlignmentSettings, full_samples: int) -> int:
    """P, number of samples of the stage that trains the projector alone.

    Args:
        settings: alignment recipe.
        full_samples: D, the number of samples of a full alignment.
    """
    return stage_samples(settings.projector_stage, full_samples, settings.batch_size)


def _factor(settings: AlignmentSettings, seen: int, size: int, warmup: float) -> float:
    """Rate of a stage on the trunk, as a share of its peak."""
    factor = min(1.0, seen / max(1, warmup))
    before = seen - settings.batch_size
    if settings.schedule == "linear":
        factor *= (size - before) / size
    if settings.schedule == "cosine":
        done = max(0.0, before - warmup) / max(1.0, size - warmup)
        factor *= (1 + math.cos(math.pi * min(1.0, done))) / 2
    return factor


def branch_to(settings: AlignmentSettings, rung: int) -> Branch | None:
    """The cool-down that ends at a rung; None if the recipe has no cool-down.

    Args:
        settings: alignment recipe.
        rung: number of samples at the rung.
    """
    if settings.schedule != "cooldown":
        return None
    batches = max(1, round(settings.cooldown * rung / settings.batch_size))
    return Branch(max(0, rung - batches * settings.batch_size), rung)


class Average:
    """A running average of the trained weights."""

    def __init__(self, width: float, weights: Mapping[str, torch.Tensor]) -> None:
        """Start at the present weights.

        Args:
            width: standard deviation of the averaged steps as a share of the training; above 0 and
                below 0.28; near 0.29 the average would be uniform.
            weights: weights to average, by name.

        Raises:
            ConfigError: if the width is out of range.
        """
        self._exponent = exponent_of(width)
        self.weights = {name: value.detach().clone() for name, value in weights.items()}

    def update(self, weights: Mapping[str, torch.Tensor], step: int) -> None:
        """Add the weights after a step to the average.

        Args:
            weights: present weights, by name.
            step: t, the number of steps so far, from 1.
        """
        share = 1.0 - (1.0 - 1.0 / step) ** (self._exponent + 1.0)
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.weights.values()), [weights[n].detach() for n in self.weights], share
            )


def exponent_of(width: float) -> float:
    """Exponent g of an average: the root of g^3 + 7 g^2 + (16 - width^-2) g + 12 - width^-2.

    Source: Karras et al. 2024, appendix C.

    Args:
        width: standard deviation of the averaged steps as a share of the training; above 0 and
            below 0.28.

    Returns:
        The largest root.

    Raises:
        ConfigError: if the width is out of range.
    """
    if not 0.0 < width < _WIDEST:
        raise ConfigError([f"average_width: got {width}; it must be above 0 and below {_WIDEST}"])
    inverse = width**-2
    roots = np.roots([1.0, 7.0, 16.0 - inverse, 12.0 - inverse])
    return float(max(root.real for root in roots if math.isclose(root.imag, 0.0, abs_tol=1e-9)))
