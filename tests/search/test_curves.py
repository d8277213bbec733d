"""Log-linear fits: exact on exact curves, calibrated on noisy ones, never rising silently."""

from __future__ import annotations

import numpy as np
import pytest

from mordal_optuna.errors import SearchError
from mordal_optuna.search.curves import Measurement, fit_log_linear


def curve(slope: float, samples: tuple[int, ...], level: float = 0.6) -> list[Measurement]:
    return [
        Measurement(n, 1 - level * (n / samples[0]) ** slope, stderr=0.01, documents=1000)
        for n in samples
    ]


def test_an_exact_power_law_is_extrapolated_exactly() -> None:
    fit = fit_log_linear(curve(-0.3, (512, 1024, 2048)))
    y, _ = fit.log_error(16384)
    assert fit.slope == pytest.approx(-0.3)
    assert np.exp(y) == pytest.approx(0.6 * (16384 / 512) ** -0.3)
    assert fit.goodness == pytest.approx(1.0)


def test_a_precise_point_weighs_more_than_a_noisy_one() -> None:
    """Two precise points on a line and one noisy outlier: the line goes through the precise."""
    points = [
        Measurement(100, 0.4, stderr=0.001, documents=10_000),
        Measurement(200, 0.9, stderr=0.3, documents=10_000),
        Measurement(400, 0.6, stderr=0.001, documents=10_000),
    ]
    fit = fit_log_linear(points)
    assert np.exp(fit.log_error(100)[0]) == pytest.approx(0.6, abs=0.01)
    assert np.exp(fit.log_error(400)[0]) == pytest.approx(0.4, abs=0.01)


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Two standard errors around f(1) hold the truth in about 95 % of 400 noisy curves."""
    rng = np.random.default_rng(0)
    samples, documents, inside = (512, 1024, 2048, 4096), 500, 0
    for _ in range(400):
        points = []
        for n in samples:
            truth = 0.7 * (n / 512) ** -0.25
            score = 1 - rng.binomial(documents, truth) / documents
            noise = (score * (1 - score) / documents) ** 0.5
            points.append(Measurement(n, score, noise, documents))
        y, s = fit_log_linear(points).log_error(16384)
        inside += abs(y - np.log(0.7 * 32**-0.25)) < 1.96 * s
    assert 0.93 <= inside / 400 <= 1.0


def test_a_bent_curve_is_trusted_less() -> None:
    straight = fit_log_linear(curve(-0.3, (512, 1024, 2048)))
    bent = curve(-0.3, (512, 1024, 2048))
    bent[1] = Measurement(1024, bent[1].score - 0.15, stderr=0.01, documents=1000)
    fit = fit_log_linear(bent)
    assert fit.goodness < 0.01
    assert fit.log_error(16384)[1] > 3 * straight.log_error(16384)[1]


def test_a_rising_error_is_held_flat_and_said() -> None:
    fit = fit_log_linear(curve(+0.2, (512, 1024, 2048), level=0.3))
    assert fit.rising
    assert fit.slope == 0.0
    assert fit.log_error(16384)[0] == pytest.approx(fit.log_error(512)[0])


def test_an_error_of_zero_counts_as_half_a_document() -> None:
    perfect = Measurement(512, 1.0, stderr=0.0, documents=200)
    assert np.exp(perfect.log_error) == pytest.approx(0.5 / 200)
    assert perfect.log_noise > 0


@pytest.mark.parametrize("score", [-0.1, 1.1, float("nan")])
def test_what_is_no_score_is_refused(score: float) -> None:
    with pytest.raises(SearchError, match="must be between 0 and 1"):
        Measurement(10, score)


def test_one_point_makes_no_curve() -> None:
    with pytest.raises(SearchError, match="at least 2 different"):
        fit_log_linear(curve(-0.3, (512,)))
