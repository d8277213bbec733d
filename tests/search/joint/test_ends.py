"""Ends of all curves of a large pool of independent models."""

from __future__ import annotations

import numpy as np
import pytest

from mordal_optuna.search.joint.effects import PRIOR, Correlations, Hyperparameters, Places
from mordal_optuna.search.joint.fitting import Process, Scores

VALUES = Hyperparameters.of(PRIOR.logs)
FREE = Correlations.none(3, 4)
ALL = Places(*np.divmod(np.arange(12), 4), np.zeros(12), np.zeros(12, dtype=np.int64))


def scores(count: int) -> Scores:
    """Scores and likelihoods of random pairs, some of them several times."""
    rng = np.random.default_rng(0)
    places = Places(
        rng.integers(0, 3, count),
        rng.integers(0, 4, count),
        -rng.integers(0, 6, count).astype(float),
        rng.integers(0, 2, count),
    )
    return Scores(places, rng.normal(-1, 0.2, count), np.full(count, 0.001))


@pytest.mark.parametrize("count", [0, 1, 9, 30])
def test_ends_are_those_of_the_process(count: int) -> None:
    process = Process(VALUES, FREE, scores(count))
    _, covariance = process.at(ALL)
    ends = process.ends()
    assert ends.variance == pytest.approx(covariance.diagonal(), abs=1e-10)
    chosen = np.array([7, 0, 11, 3])
    expected = covariance[np.ix_(chosen, chosen)]
    assert ends.covariance(chosen) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("count", [1, 5, 20])
def test_further_scores_extend_the_ends(count: int) -> None:
    """Those of pairs with and without scores; in two steps."""
    whole = scores(30)
    begin = Process(VALUES, FREE, whole.part(slice(count)))
    begin.ends()
    middle = Process(VALUES, FREE, whole.part(slice(count + 4)), before=begin)
    middle.ends()
    ends = Process(VALUES, FREE, whole, before=middle).ends()
    expected = Process(VALUES, FREE, whole).ends()
    assert ends.variance == pytest.approx(expected.variance, abs=1e-10)
    everyone = np.arange(12)
    assert ends.covariance(everyone) == pytest.approx(expected.covariance(everyone), abs=1e-10)


def test_ends_that_nobody_asked_for_earlier_are_computed_in_full() -> None:
    whole = scores(20)
    begin = Process(VALUES, FREE, whole.part(slice(8)))
    extended = Process(VALUES, FREE, whole, before=begin).ends().variance
    assert extended == pytest.approx(Process(VALUES, FREE, whole).ends().variance, abs=1e-10)
