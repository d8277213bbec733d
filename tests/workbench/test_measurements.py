"""A score becomes a measurement with all that a curve, a warning or a report needs."""

from __future__ import annotations

import math

import pytest

from mordal_optuna.evaluation.score import Score
from mordal_optuna.search.curves import Measurement
from mordal_optuna.workbench.measurements import measurement_of


def test_a_measurement_has_everything_that_a_score_knows() -> None:
    score = Score(
        "t", 0.5, 0.1, 2, (0.0, 1.0), 3.0, guessed=0.2, cut=0.3, empty=0.4, alike=0.6,
        likelihoods=(1.0, 3.0),
    )  # fmt: skip
    assert measurement_of(score, 128) == Measurement(
        samples=128,
        score=0.5,
        stderr=0.1,
        documents=2,
        nll=2.0,
        nll_stderr=pytest.approx(1.0),  # type: ignore[arg-type] - sqrt(2) / sqrt(2)
        p_correct=pytest.approx((math.exp(-1) + math.exp(-3)) / 2),  # type: ignore[arg-type]
        p_correct_stderr=pytest.approx((math.exp(-1) - math.exp(-3)) / 2),  # type: ignore[arg-type]
        guessed=0.2,
        cut=0.3,
        empty=0.4,
        alike=0.6,
    )
