"""The weighted mean of tasks from their posteriors."""

from __future__ import annotations

import numpy as np
import pytest

from mordal_optuna.pool import Candidate
from mordal_optuna.search.joint.mean import posterior_of_mean
from mordal_optuna.search.joint.posterior import Posterior

PAIRS = tuple(Candidate("v", f"m{n}") for n in range(3))
WEIGHTS = {"a": 3.0, "b": 1.0}


def posterior(mean: list[float], deviation: float, seed: int) -> Posterior:
    root = np.random.default_rng(seed).normal(size=(3, 3)) * deviation
    covariance = root @ root.T
    y = np.array(mean)
    return Posterior(
        PAIRS,
        y,
        np.sqrt(covariance.diagonal()),
        0.03,
        lambda rows: (y[rows], covariance[np.ix_(rows, rows)]),
    )


def both(deviation: float = 0.02) -> dict[str, Posterior]:
    return {
        "a": posterior([-0.5, -0.7, -0.9], deviation, 0),
        "b": posterior([-1.5, -0.2, -0.9], deviation, 1),
    }


ROWS = np.arange(3)


@pytest.mark.parametrize("correlation", [0.0, 1.0])
def test_mean_and_deviation_are_those_of_the_mean_error(correlation: float) -> None:
    """By Monte Carlo, where one draw of normal values serves both tasks or each has its own."""
    tasks = both()
    found = posterior_of_mean(tasks, WEIGHTS, correlation=correlation)
    rng = np.random.default_rng(0)
    shared = rng.standard_normal((50_000, 3))
    errors = 0.0
    for name, task in tasks.items():
        mean, covariance = task.joint(ROWS)
        values, vectors = np.linalg.eigh(covariance)
        root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
        draws = shared if correlation else rng.standard_normal(shared.shape)
        errors = errors + WEIGHTS[name] / 4 * np.exp(mean + draws @ root)
    drawn = np.log(errors)
    assert found.mean == pytest.approx(drawn.mean(axis=0), abs=1e-3)
    mean, covariance = found.joint(ROWS)
    assert mean == pytest.approx(found.mean)
    assert covariance == pytest.approx(np.cov(drawn.T), rel=0.05, abs=3e-6)
    if not correlation:
        assert found.deviation == pytest.approx(np.sqrt(covariance.diagonal()))


def test_more_correlation_is_more_cautious() -> None:
    spreads = [
        posterior_of_mean(both(), WEIGHTS, correlation=c).deviation for c in (0.0, 0.5, 1.0)
    ]
    assert (spreads[0] < spreads[1]).all()
    assert (spreads[1] < spreads[2]).all()


def test_the_mean_of_one_task_is_that_task() -> None:
    task = both()["a"]
    found = posterior_of_mean({"a": task}, {"a": 2.0})
    assert found.mean == pytest.approx(task.mean)
    assert found.deviation == pytest.approx(task.deviation)
    assert found.run_noise == pytest.approx(task.run_noise)
    assert found.joint(ROWS)[1] == pytest.approx(task.joint(ROWS)[1])
    assert found.best == pytest.approx(task.best)
