"""Rates and averages, computed by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from mordal_optuna.alignment.schedule import (
    Average,
    Branch,
    Rates,
    branch_to,
    exponent_of,
    rates,
)
from mordal_optuna.config.alignment import ProjectorStage
from mordal_optuna.errors import ConfigError

if TYPE_CHECKING:
    from mordal_optuna.config import AlignmentSettings


def recipe(settings: AlignmentSettings, schedule: str) -> AlignmentSettings:
    changed = {"schedule": schedule, "learning_rate": 1.0, "warmup_samples": 16, "cooldown": 0.25}
    return settings.model_copy(update=changed)


def rate(settings: AlignmentSettings, seen: int, full: int, branch: Branch | None) -> float:
    """The one rate of projector and LoRA."""
    found = rates(settings, seen, full, branch)
    assert found.lora == found.projector
    return found.projector


def test_a_cosine_falls_after_the_warm_up(settings: AlignmentSettings) -> None:
    """Half a cosine over what follows the warm-up of 16 of 64 samples, by what is left before."""
    chosen = recipe(settings, "cosine")
    found = [rate(chosen, seen, 64, None) for seen in (8, 16, 24, 48, 64)]
    middle = (1 + np.cos(np.pi / 2)) / 2
    last = (1 + np.cos(np.pi * 40 / 48)) / 2
    assert found == pytest.approx([0.5, 1.0, 1.0, middle, last])


def test_the_projectors_stage_has_a_warm_up_and_a_schedule_of_its_own(
    settings: AlignmentSettings,
) -> None:
    """A quarter of 64 samples; its warm-up is the same share of it as that of the rest."""
    stage = ProjectorStage(share=0.25, learning_rate=10.0)
    changed = {"projector_stage": stage, "projector_learning_rate": 0.1, "warmup_samples": 24}
    chosen = recipe(settings, "linear").model_copy(update=changed)
    assert rates(chosen, 8, 64, None) == Rates(10.0, None)
    assert rates(chosen, 16, 64, None) == Rates(5.0, None)
    first, peak = rates(chosen, 24, 64, None), rates(chosen, 40, 64, None)
    assert (first.projector, first.lora) == pytest.approx((0.1 / 3, 1 / 3))
    assert (peak.projector, peak.lora) == pytest.approx((0.1 * 4 / 6, 4 / 6))


def test_the_rate_warms_up_and_stays(settings: AlignmentSettings) -> None:
    chosen = recipe(settings, "constant")  # batches of 8
    assert [rate(chosen, seen, 64, None) for seen in (8, 16, 24, 64)] == [0.5, 1.0, 1.0, 1.0]


def test_linear_decay_ends_with_the_last_batch(settings: AlignmentSettings) -> None:
    """What is left before a batch, of all: a last step at a rate of 0 would be no step."""
    chosen = recipe(settings, "linear")
    found = [rate(chosen, seen, 64, None) for seen in (8, 16, 24, 56, 64)]
    assert found == [0.5, 7 / 8, 6 / 8, 2 / 8, 1 / 8]


def test_a_branch_falls_from_the_trunks_rate(settings: AlignmentSettings) -> None:
    chosen = recipe(settings, "cooldown")
    branch = branch_to(chosen, 64)
    assert branch == Branch(48, 64)
    assert [rate(chosen, seen, 64, branch) for seen in (56, 64)] == [1.0, 0.5]
    assert rate(chosen, 48, 64, None) == 1.0
    assert branch_to(chosen, 8) == Branch(0, 8)  # at least one batch
    assert branch_to(recipe(settings, "ema"), 64) is None


@pytest.mark.parametrize("width", [0.05, 0.1, 0.2])
def test_the_average_is_as_wide_as_asked_for(width: float) -> None:
    """Weights of past steps, read off an average of unit vectors, have that standard deviation."""
    steps = 1000
    average = Average(width, {"w": torch.zeros(steps, dtype=torch.float64)})
    for step in range(1, steps + 1):
        now = torch.zeros(steps, dtype=torch.float64)
        now[step - 1] = 1.0
        average.update({"w": now}, step)
    profile = average.weights["w"].numpy()
    assert profile.sum() == pytest.approx(1.0)
    position = np.arange(1, steps + 1) / steps
    mean = (profile * position).sum()
    assert np.sqrt((profile * (position - mean) ** 2).sum()) == pytest.approx(width, rel=0.01)


def test_the_papers_width_of_a_tenth_is_the_papers_exponent() -> None:
    assert exponent_of(0.1) == pytest.approx(6.94, abs=0.005)
    assert exponent_of(0.05) == pytest.approx(16.97, abs=0.005)


@pytest.mark.parametrize("width", [-0.1, 0.0, 0.28, 1.0])
def test_a_width_out_of_range_is_refused(width: float) -> None:
    with pytest.raises(ConfigError, match=f"got {width}; it must be above 0 and below 0.28"):
        exponent_of(width)
