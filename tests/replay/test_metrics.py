"""Rank correlations: published vectors, both treatments of ties, invalid values refused."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mordal_optuna.errors import SearchError
from mordal_optuna.replay.metrics import (
    interval_of_mean,
    tau_of_top,
    weighted_tau,
    weighted_tau_random_ties,
)

ACCURACY = [96.2, 97.5, 96.8, 97.7, 97.9, 97.2, 97.4, 97.4, 95.7, 96.8]
LEEP = [-1.385, -1.259, -1.010, -0.829, -0.838, -1.035, -0.934, -0.888, -1.100, -1.066]
LOGME = [0.293, 0.349, 0.388, 0.463, 0.469, 0.302, 0.343, 0.369, 0.291, 0.304]


def test_the_published_vectors() -> None:
    assert weighted_tau(LEEP, ACCURACY) == pytest.approx(0.638, abs=5e-4)
    assert weighted_tau(LOGME, ACCURACY) == pytest.approx(0.785, abs=5e-4)


def test_mistakes_at_the_top_weigh_more() -> None:
    truth = [5.0, 4.0, 3.0, 2.0, 1.0]
    assert weighted_tau([4, 5, 3, 2, 1], truth) < weighted_tau([5, 4, 3, 1, 2], truth) < 1


def test_plain_ties_flatter_a_ranking_and_random_orders_do_not() -> None:
    """One group of equals below a right best: the plain value ignores the group."""
    truth = list(range(10, 0, -1))
    tied = [2.0] + [1.0] * 9
    plain, broken = weighted_tau(tied, truth), weighted_tau_random_ties(tied, truth)
    assert plain > broken + 0.2
    orders = []
    rng = np.random.default_rng(7)
    for _ in range(2000):
        orders.append(stats.weightedtau([2.0, *rng.random(9)], truth).statistic)
    assert broken == pytest.approx(np.mean(orders), abs=0.05)


def test_without_ties_both_are_equal() -> None:
    assert weighted_tau_random_ties(LEEP, ACCURACY) == weighted_tau(LEEP, ACCURACY)


def test_equal_estimates_have_a_tau_of_zero() -> None:
    assert weighted_tau([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) == 0.0


@pytest.mark.parametrize(
    ("estimates", "truths"),
    [([1.0], [1.0]), ([1.0, 2.0], [1.0]), ([1.0, float("nan")], [1.0, 2.0])],
)
def test_invalid_values_are_refused(estimates: list[float], truths: list[float]) -> None:
    with pytest.raises(SearchError, match="rank correlation"):
        weighted_tau(estimates, truths)


def test_the_interval_of_a_mean_is_students() -> None:
    mean, half = interval_of_mean([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert half == pytest.approx(4.303 * 1 / 3**0.5, abs=1e-3)
    assert interval_of_mean([4.0]) == (4.0, 0.0)


def test_the_top_is_chosen_by_true_scores() -> None:
    """Of ten candidates the three that are truly best are compared, in their own order."""
    truth = [0.1, 0.9, 0.2, 0.8, 0.3, 0.7, 0.1, 0.2, 0.3, 0.4]
    estimates = [1.0, 0.9, 1.0, 0.8, 1.0, 0.7, 1.0, 1.0, 1.0, 1.0]
    assert tau_of_top(estimates, truth, 3) == pytest.approx(1.0)
    assert tau_of_top(estimates, truth) < 0.5
    assert tau_of_top([0.5], [0.5]) == 0.0


def test_numbers_out_of_bounds_are_refused() -> None:
    with pytest.raises(SearchError, match="draws: got 0; it must be at least 1"):
        weighted_tau_random_ties(LEEP, ACCURACY, draws=0)
    for values, confidence in (([], 0.95), ([1.0], 0.0), ([1.0], 1.0)):
        with pytest.raises(SearchError, match="at least 1 value and a confidence between 0 and 1"):
            interval_of_mean(values, confidence=confidence)
