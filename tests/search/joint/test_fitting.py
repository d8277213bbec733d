"""Hyperparameters and conditioning of the joint model."""

from __future__ import annotations

import numpy as np
import pytest

from mordal_optuna.search.joint import effects, fitting
from mordal_optuna.search.joint.effects import PRIOR, Correlations, Hyperparameters, Places
from mordal_optuna.search.joint.fitting import Process, Scores, most_probable
from mordal_optuna.search.joint.similarity import correlations_of

RNG = np.random.default_rng(0)
ALIKE = correlations_of([[1.0, 0.9, 0.2], [0.9, 1.0, 0.1], [0.2, 0.1, 1.0]])
CORRELATIONS = Correlations(ALIKE, np.eye(4))


def places(count: int, *, likelihoods: bool = True) -> Places:
    kinds = RNG.integers(0, 2, count) if likelihoods else np.zeros(count, dtype=np.int64)
    x = -RNG.integers(0, 6, count).astype(float)
    return Places(RNG.integers(0, 3, count), RNG.integers(0, 4, count), x, kinds)


def scores(count: int, values: Hyperparameters, *, likelihoods: bool = True) -> Scores:
    """Drawn from the model."""
    where = places(count, likelihoods=likelihoods)
    shape = effects.covariance(values, CORRELATIONS, where, where)
    noise = values.shared * 0.001 + values.noises[where.kind] ** 2
    factor = np.linalg.cholesky(shape + np.diag(noise))
    y = effects.common_mean(where) + factor @ RNG.standard_normal(count)
    return Scores(where, y, np.full(count, 0.001))


def test_the_gradient_is_the_derivative_of_the_density() -> None:
    density = fitting._Density(scores(40, Hyperparameters.of(PRIOR.logs)), CORRELATIONS, PRIOR)
    logs = PRIOR.logs + 0.2 * RNG.standard_normal(12)
    steps = 1e-5 * np.eye(12)
    numeric = [(density(logs + s)[0] - density(logs - s)[0]) / 2e-5 for s in steps]
    assert density(logs)[1] == pytest.approx(numeric, abs=1e-3)


def test_without_scores_the_prior_is_the_answer() -> None:
    empty = scores(3, Hyperparameters.of(PRIOR.logs)).part(slice(0, 0))
    assert most_probable(empty, CORRELATIONS, PRIOR) == Hyperparameters.of(PRIOR.logs)


def test_hyperparameters_move_from_the_prior_towards_the_truth() -> None:
    logs = PRIOR.logs.copy()
    logs[:3] += 1.2  # pools whose models differ more than usual
    truth = Hyperparameters.of(logs)
    found = most_probable(scores(250, truth, likelihoods=False), CORRELATIONS, PRIOR)
    for s, true, usual in zip(found.spreads, truth.spreads, PRIOR.medians, strict=False):
        assert abs(np.log(s / true)) < abs(np.log(usual / true))


def test_many_scores_are_thinned_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "_FITTED", 20)
    many = scores(60, Hyperparameters.of(PRIOR.logs))
    chosen = np.linspace(0, 59, 20).round().astype(int)
    assert most_probable(many, CORRELATIONS, PRIOR) == most_probable(
        many.part(chosen), CORRELATIONS, PRIOR
    )


def test_a_score_is_believed_as_far_as_its_noise_allows() -> None:
    values = Hyperparameters.of(PRIOR.logs)
    one = Scores(places(1, likelihoods=False), np.array([-1.0]), np.array([1e-8]))
    process = Process(values, CORRELATIONS, one)
    mean, covariance = process.at(one.places)
    assert mean[0] == pytest.approx(-1.0, abs=0.01)
    assert covariance[0, 0] == pytest.approx(values.noise**2, rel=0.05)
    assert process.moments(one.places)[1][0] == pytest.approx(covariance[0, 0])


def test_means_of_a_whole_pool_are_those_of_its_pairs() -> None:
    process = Process(
        Hyperparameters.of(PRIOR.logs), CORRELATIONS, scores(30, Hyperparameters.of(PRIOR.logs))
    )
    i, j = np.divmod(np.arange(12), 4)
    ends = Places(i, j, np.zeros(12), np.zeros(12, dtype=np.int64))
    assert process.grid_mean() == pytest.approx(process.moments(ends)[0])
