"""Hyperparameters and conditioning of the joint model."""

from __future__ import annotations

import numpy as np
import pytest

from mordal_optuna.pool import Candidate
from mordal_optuna.search.curves import Measurement
from mordal_optuna.search.joint import effects, fitting
from mordal_optuna.search.joint.effects import (
    PRIOR,
    Correlations,
    Hyperparameters,
    Hyperprior,
    Places,
)
from mordal_optuna.search.joint.fitting import Process, Scores, inflation, most_probable
from mordal_optuna.search.joint.posterior import JointModel
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


# Encoder, LLM, x, kind, ln error, V: scores of one search at which the search for hyperparameters
# took a step so long that they overflowed.
FAR = (
    *((3, 6, -4, 0, -0.276, 8.3e-4), (1, 2, -4, 1, -0.288, 3.8e-6), (4, 1, -4, 1, -0.29, 2.6e-5)),
    *((5, 3, -4, 1, -0.283, 8.6e-7), (2, 4, -4, 1, -0.221, 2.7e-4), (0, 5, -4, 0, -0.234, 7.1e-4)),
    *((6, 0, -4, 1, -0.285, 1.1e-6), (1, 1, -4, 0, -0.246, 8.1e-4), (4, 3, -4, 0, -0.28, 1.2e-3)),
    *((2, 5, -4, 0, -0.239, 8.3e-4), (0, 0, -4, 1, -0.287, 2.1e-6), (6, 6, -4, 0, -0.371, 1.6e-3)),
    *((6, 6, -4, 1, -0.283, 3e-6), (1, 3, -4, 1, -0.289, 1.4e-6), (4, 4, -4, 0, -0.363, 1.7e-3)),
    *((4, 4, -4, 1, -0.337, 4.8e-4), (5, 5, -4, 0, -0.34, 1.6e-3), (2, 0, -4, 0, -0.243, 1.1e-3)),
    *((4, 5, -5, 0, -0.269, 9.4e-4), (4, 5, -5, 1, -0.27, 1.4e-4), (4, 1, -3, 1, -0.288, 5.8e-5)),
)


def test_a_long_step_of_the_search_for_hyperparameters_does_not_overflow() -> None:
    columns = [np.array(column) for column in zip(*FAR, strict=True)]
    where = Places(columns[0], columns[1], columns[2].astype(float), columns[3])
    free = Correlations.none(7, 7)
    found = most_probable(Scores(where, columns[4], columns[5]), free, PRIOR)
    values = (*found.spreads, *found.lengths, found.growth, found.shared, found.noise)
    apart = np.abs(np.log(values) - PRIOR.logs[:9]) / np.array(PRIOR.spreads[:9])
    assert (apart < 4).all()


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


def left_out(given: Scores, values: Hyperparameters) -> list[float]:
    """The z of the last score of each pair, by conditioning on the scores of all other pairs."""
    found = []
    pairs = given.places.encoder * 4 + given.places.llm
    for pair in np.unique(pairs):
        own = np.flatnonzero((pairs == pair) & (given.places.kind == effects.ERROR))
        if not len(own):
            continue
        last = own[given.places.x[own].argmax()]
        others = Process(values, CORRELATIONS, given.part(np.flatnonzero(pairs != pair)))
        mean, variance = others.moments(given.places.part(np.array([last])))
        noise = values.shared * given.documents[last] + values.noise**2
        found.append((given.values[last] - mean[0]) / np.sqrt(variance[0] + noise))
    return found


def test_inflation_is_the_misfit_of_pairs_predicted_from_the_others() -> None:
    values = Hyperparameters.of(PRIOR.logs)
    drawn = scores(40, values)
    wrong = Scores(drawn.places, 4 * drawn.values, drawn.documents)
    z = np.array(left_out(wrong, values))
    expected = np.sqrt((10 + (z**2).sum()) / (10 + len(z)))
    assert expected > 1.5
    assert inflation(wrong, CORRELATIONS, values) == pytest.approx(expected, rel=1e-6)


def test_scores_that_the_model_explains_inflate_nothing() -> None:
    values = Hyperparameters.of(PRIOR.logs)
    found = [inflation(scores(40, values), CORRELATIONS, values) for _ in range(20)]
    assert np.mean(found) < 1.15
    exact = Scores(drawn := places(12), effects.common_mean(drawn), np.full(12, 0.001))
    assert inflation(exact, CORRELATIONS, values) == 1
    assert inflation(exact.part(slice(0)), CORRELATIONS, values) == 1


def test_an_inflation_widens_the_posterior_and_keeps_its_means() -> None:
    """By the same factor in deviations, draws and contrasts."""
    pool = [Candidate(f"e{i}", f"l{j}") for i in range(4) for j in range(4)]
    seen = [
        (c, Measurement(8, 0.2 if (n // 4 + n) % 2 else 0.7, 0.01, 1000))
        for n, c in enumerate(pool[:12])
    ]
    prior = Hyperprior(PRIOR.medians, (1e-3,) * len(PRIOR.medians))  # cannot adapt to the scores
    model = JointModel(seen, pool, 8, prior=prior)
    assert model.inflation > 1.2
    plain, covariance = model.at(pool, [8] * len(pool))
    found = model.posterior
    assert found.mean == pytest.approx(plain)
    assert found.deviation**2 == pytest.approx(model.inflation**2 * covariance.diagonal())
    difference = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    assert found.contrast(0, 1)[1] == pytest.approx(model.inflation * np.sqrt(difference))
