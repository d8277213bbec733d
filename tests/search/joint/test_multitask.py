"""One process over several tasks: what tasks share, and what they do not."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mordal_optuna.pool import Candidate
from mordal_optuna.search.curves import Measurement
from mordal_optuna.search.joint import effects, multitask
from mordal_optuna.search.joint.effects import LN2, PRIOR, Hyperparameters
from mordal_optuna.search.joint.multitask import MultitaskModel, TaskModel, sharing
from mordal_optuna.search.joint.posterior import JointModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mordal_optuna.search.joint.effects import Floats

FULL = 1024
POOL = [Candidate(f"v{i}", f"m{j}") for i in range(5) for j in range(4)]
VALUES = Hyperparameters.of(PRIOR.logs)
OTHER = replace(
    VALUES,
    spreads=(0.3, 0.1, 0.2),
    lengths=(4.0, 20.0, 2.0),
    growth=0.1,
    shared=0.4,
    noise=0.05,
    walk=0.01,
)


def measurement(samples: int, error: float, *, p: float | None = None) -> Measurement:
    return Measurement(
        samples, 1 - error, 0.02, 300, p_correct=p, p_correct_stderr=None if p is None else 0.01
    )


def model(
    scores: Sequence[tuple[Candidate, Measurement]], values: Hyperparameters = VALUES
) -> JointModel:
    return JointModel(scores, POOL, FULL, values=values)


def some_scores(seed: int, count: int = 9) -> list[tuple[Candidate, Measurement]]:
    rng = np.random.default_rng(seed)
    pairs = rng.permutation(len(POOL))[:count].tolist()
    return [
        (
            POOL[n],
            measurement(
                int(rng.choice([64, 128, 512])),
                float(rng.uniform(0.3, 0.8)),
                p=float(rng.uniform(0.2, 0.6)),
            ),
        )
        for n in pairs
    ]


def covariance_by_loops(
    models: Sequence[JointModel], correlation: tuple[float, float]
) -> tuple[Floats, Floats]:
    """K with its noise, and y less its mean, entry by entry from the formulas."""
    rows = [
        (t, m.values, m.scores.places.part(np.array([n])), m.scores.documents[n])
        for t, m in enumerate(models)
        for n in range(len(m.scores.places))
    ]
    lengths = np.exp(np.mean([np.log(m.values.lengths) for m in models], axis=0))
    k = np.zeros((len(rows), len(rows)))
    for a, (t, v, place, documents) in enumerate(rows):
        for b, (other_t, other_v, other, _) in enumerate(rows):
            x, z = place.x[0], other.x[0]
            growth = np.exp(LN2 * (v.growth * x + other_v.growth * z))
            growth *= v.gains[place.kind[0]] * other_v.gains[other.kind[0]]
            encoder = float(place.encoder[0] == other.encoder[0])
            llm = float(place.llm[0] == other.llm[0])
            u, w_llm, w = (
                s * s_other * np.exp(-abs(x - z) / d) * growth * shape
                for s, s_other, d, shape in zip(
                    v.spreads,
                    other_v.spreads,
                    lengths,
                    (encoder, llm, encoder * llm),
                    strict=True,
                )
            )
            if t == other_t:
                common = sum(effects.common_covariances(v, place, other))
                k[a, b] = u + w_llm + w + float(np.asarray(common)[0, 0])
            else:
                k[a, b] = correlation[0] * u + correlation[1] * w_llm
        k[a, a] += v.shared * documents + v.noises[place.kind[0]] ** 2
    y = np.concatenate([m.scores.values - effects.common_mean(m.scores.places) for m in models])
    return k, y


def test_the_posterior_is_that_of_the_formulas() -> None:
    """Tasks with other hyperparameters, at several rungs, with likelihoods, by plain algebra."""
    own = [model(some_scores(0)), model(some_scores(1), OTHER)]
    shared = MultitaskModel(own, correlation=(0.5, 0.2))
    # The asked place is the first row; the scores of the task itself follow.
    joined = model([(POOL[3], measurement(1024, 0.5)), *some_scores(0)])
    place = joined.scores.places.part(np.array([0]))
    mean, variance = shared.at(0, place)
    k, y = covariance_by_loops([joined, own[1]], (0.5, 0.2))
    prior = k[0, 0] - float(VALUES.shared * joined.scores.documents[0] + VALUES.noise**2)
    cross, rest = k[0, 1:], k[1:, 1:]
    expected = effects.common_mean(place)[0] + cross @ np.linalg.solve(rest, y[1:])
    assert mean[0] == pytest.approx(expected, abs=1e-7)
    assert variance[0, 0] == pytest.approx(prior - cross @ np.linalg.solve(rest, cross), abs=1e-7)
    moments = shared.moments(0, place)
    assert moments[0] == pytest.approx(mean)
    assert moments[1] == pytest.approx(variance.diagonal())


def test_without_correlation_every_task_has_its_own_estimates() -> None:
    own = [model(some_scores(0)), model(some_scores(1))]
    shared = MultitaskModel(own, correlation=(1e-12, 1e-12))
    for task, alone in enumerate(own):
        one = TaskModel(shared, task)
        samples = [FULL] * len(POOL)
        for found, expected in zip(one.at(POOL, samples), alone.at(POOL, samples), strict=True):
            assert found == pytest.approx(expected, abs=1e-6)
        assert one.means == pytest.approx(alone.means, abs=1e-6)
        assert one.posterior.deviation == pytest.approx(alone.posterior.deviation, abs=1e-6)


def test_a_score_moves_its_encoder_and_its_llm_on_the_other_task_and_no_other() -> None:
    start = [(c, measurement(128, 0.5)) for c in POOL]
    good = [(c, m if c != POOL[0] else measurement(128, 0.2)) for c, m in start]
    before, after = (
        TaskModel(MultitaskModel([model(first), model(start)], correlation=(0.6, 0.3)), 1).means
        for first in (start, good)
    )
    moved = (after - before).reshape(5, 4)
    moved -= moved[1:, 1:].mean()  # what the common curve moves
    assert moved[0, 0] < moved[0, 1] < -0.001  # the encoder, and the LLM with it
    assert moved[1, 0] < -0.0002  # the LLM
    assert np.ptp(moved[1:, 1:]) < 1e-9
    assert abs(moved[0, 1]) > abs(moved[1, 0])  # since c_u is larger


def drawn(correlation: float, seed: int) -> list[JointModel]:
    """Two tasks whose encoders' effects are correlated; those of LLMs are not."""
    rng = np.random.default_rng(seed)
    pool = [Candidate(f"v{i}", f"m{j}") for i in range(12) for j in range(6)]
    first = rng.standard_normal(12)
    second = correlation * first + np.sqrt(1 - correlation**2) * rng.standard_normal(12)
    models = []
    for encoders in (first, second):
        llms = 0.15 * rng.standard_normal(6)
        scores = []
        for n, candidate in enumerate(pool):
            error = 0.5 * np.exp(0.15 * encoders[n // 6] + llms[n % 6])
            scores.append((candidate, measurement(FULL, float(min(error, 0.99)))))
        models.append(JointModel(scores, pool, FULL, values=VALUES))
    return models


def test_the_correlation_is_learned_from_the_scores() -> None:
    high = MultitaskModel(drawn(0.95, 0)).correlation
    low = MultitaskModel(drawn(0.0, 1)).correlation
    assert high[0] > 0.7 > 0.4 > low[0]


def test_the_gradient_is_the_derivative_of_the_density() -> None:
    shared = MultitaskModel([model(some_scores(0)), model(some_scores(1), OTHER)])
    density = multitask._Density(shared._terms, shared._rows, shared._y, shared._noise)
    at = np.array([0.3, -1.1])
    numeric = [(density(at + s)[0] - density(at - s)[0]) / 2e-5 for s in 1e-5 * np.eye(2)]
    assert density(at)[1] == pytest.approx(numeric, abs=1e-4)


def test_one_task_keeps_its_model() -> None:
    alone = {"": model(some_scores(0))}
    assert sharing(alone) is alone


def test_tasks_of_large_pools_and_of_many_scores_keep_their_models(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    models = {"a": model(some_scores(0)), "b": model(some_scores(1))}
    assert all(isinstance(one, TaskModel) for one in sharing(models).values())
    scores = sum(one.scored for one in models.values())
    monkeypatch.setattr(multitask, "MOST_SCORES", scores - 1)
    assert sharing(models) is models
    monkeypatch.setattr(multitask, "MOST_SCORES", scores)
    monkeypatch.setattr(multitask, "MOST_PAIRS", len(POOL) - 1)
    assert sharing(models) is models


def test_a_task_without_a_score_is_estimated_from_the_others() -> None:
    models = {"a": model(some_scores(0)), "b": model([])}
    views = sharing(models)
    assert np.ptp(models["b"].means) == 0
    assert np.ptp(views["b"].means) > 0.001
    assert sharing({"a": model([]), "b": model([])})["a"].scored == 0


def test_a_tasks_posterior_is_inflated_like_its_own_models() -> None:
    own = [model(some_scores(0)), model(some_scores(1))]
    own[0].inflation = 1.5
    shared = MultitaskModel(own, correlation=(0.4, 0.4))
    one = TaskModel(shared, 0)
    mean, variance = shared.moments(0, own[0].whole)
    assert one.posterior.deviation == pytest.approx(1.5 * np.sqrt(variance))
    rows = np.array([4, 1])
    means, covariance = one.posterior.joint(rows)
    assert means == pytest.approx(mean[rows])
    assert np.sqrt(covariance.diagonal()) == pytest.approx(one.posterior.deviation[rows])
    assert one.posterior.best.sum() == pytest.approx(1)


@pytest.mark.parametrize("seed", range(4))
def test_the_covariance_is_positive_definite_whatever_the_tasks_hyperparameters(
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    spread = np.array(PRIOR.spreads)
    own = [
        model(
            some_scores(t, 15), Hyperparameters.of(PRIOR.logs + 2 * spread * rng.normal(size=12))
        )
        for t in range(4)
    ]
    shared = MultitaskModel(own, correlation=(0.99, 0.99))
    k = shared._covariance(shared._rows, shared._rows)
    assert np.linalg.eigvalsh(k).min() > -1e-8 * np.linalg.eigvalsh(k).max()
