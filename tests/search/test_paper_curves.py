"""The paper's curve."""

from __future__ import annotations

import pytest

from mordal_optuna.search.curves import (
    Measurement,
)
from mordal_optuna.search.paper_curves import fit_as_in_paper


def curve(slope: float, samples: tuple[int, ...], level: float = 0.6) -> list[Measurement]:
    return [
        Measurement(n, 1 - level * (n / samples[0]) ** slope, stderr=0.01, documents=1000)
        for n in samples
    ]


def test_the_papers_rule_takes_the_last_p_points_and_the_loss_decides() -> None:
    points = curve(-0.3, (256, 512, 1024, 2048))
    points[0] = Measurement(256, 0.01)  # outside the last three
    fit = fit_as_in_paper(points, points_needed=3, delta=5e-5)
    assert fit is not None
    assert fit.slope == pytest.approx(-0.3)
    assert fit.first == 512
    bent = [*points[:2], Measurement(1024, points[2].score - 0.02), points[3]]
    assert fit_as_in_paper(bent, points_needed=3, delta=5e-5) is None
    assert fit_as_in_paper(bent, points_needed=3, delta=1.0) is not None
    assert fit_as_in_paper(points[:2], points_needed=3, delta=1.0) is None


def test_the_papers_rule_extrapolates_a_rising_error_and_marks_it() -> None:
    fit = fit_as_in_paper(curve(+0.1, (512, 1024, 2048), 0.3), points_needed=3, delta=1.0)
    assert fit is not None
    assert fit.rising
    assert fit.slope == pytest.approx(0.1)
