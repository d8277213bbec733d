"""The joint model: every pair estimated from all scores, and probabilities of being best."""

from __future__ import annotations

import numpy as np
import pytest

from mordal_optuna.pool import Candidate
from mordal_optuna.search.clusters import Similarities
from mordal_optuna.search.curves import RUN_NOISE, Measurement
from mordal_optuna.search.joint import posterior
from mordal_optuna.search.joint.effects import PRIOR
from mordal_optuna.search.joint.posterior import (
    JointModel,
    independent_posterior,
    joint_posterior,
    lowest,
    probability_of_best,
)

FULL = 16384
POOL = [Candidate(f"v{i}", f"m{j}") for i in range(5) for j in range(5)]


def measurement(error: float, samples: int = FULL, stderr: float = 0.01) -> Measurement:
    return Measurement(samples, 1 - error, stderr, 10**6)


def drawn_pool(rng: np.random.Generator) -> dict[Candidate, dict[int, float]]:
    """Ln errors of a whole pool at six rungs, drawn from the model itself."""
    model = JointModel([], POOL, FULL)
    rungs = [FULL >> k for k in range(5, -1, -1)]
    mean, covariance = model.at([c for c in POOL for _ in rungs], rungs * len(POOL))
    covariance = covariance - 2.0**2 - PRIOR.medians[-1] ** 2 * 25  # its level is known
    factor = np.linalg.cholesky(covariance + 1e-6 * np.eye(len(mean)))
    # An error above 1 is none; so far down the curve lies that hardly any pair reaches it.
    y = np.minimum(mean - 1.2 + factor @ rng.standard_normal(len(mean)), -0.01)
    rows = y.reshape(len(POOL), len(rungs))
    return {c: dict(zip(rungs, row, strict=True)) for c, row in zip(POOL, rows, strict=True)}


def test_without_scores_everyone_is_equal() -> None:
    found = joint_posterior([], POOL, FULL)
    assert np.ptp(found.mean) == 0.0
    assert found.deviation.min() > 1.0
    assert found.best == pytest.approx(1 / len(POOL), abs=0.03)


def test_a_precise_score_at_the_end_is_believed() -> None:
    scores = [(POOL[0], measurement(0.3, stderr=1e-4)), (POOL[7], measurement(0.5, stderr=1e-4))]
    found = joint_posterior(scores, POOL, FULL)
    assert np.exp(found.mean[0]) == pytest.approx(0.3, rel=0.05)
    assert np.exp(found.mean[7]) == pytest.approx(0.5, rel=0.05)
    assert found.deviation[0] < 0.1 < found.deviation[24]


def test_a_pair_is_estimated_from_those_that_share_its_parts() -> None:
    """v0 is good with all it was seen with, and m0 too; v0 + m0 was never trained."""
    scores = []
    for i, j in [(0, 1), (0, 2), (1, 0), (2, 0)]:
        scores.append((Candidate(f"v{i}", f"m{j}"), measurement(0.25)))
    for i, j in [(3, 1), (4, 2), (1, 3), (2, 4), (3, 3), (4, 4)]:
        scores.append((Candidate(f"v{i}", f"m{j}"), measurement(0.6)))
    found = joint_posterior(scores, POOL, FULL)
    by = dict(zip(found.candidates, found.mean, strict=True))
    assert by[Candidate("v0", "m0")] == min(by.values())
    assert by[Candidate("v3", "m4")] > np.log(0.5)


def test_a_lucky_score_is_drawn_back_and_the_more_the_noisier_it_is() -> None:
    """One pair far better than its row and column would have it."""

    def value(stderr: float) -> float:
        rest = [(c, measurement(0.5, stderr=0.02)) for c in POOL[1:]]
        found = joint_posterior([(POOL[0], measurement(0.3, stderr=stderr)), *rest], POOL, FULL)
        return float(np.exp(found.mean[0]))

    assert 0.3 < value(0.001) < value(0.05) < value(0.1) < 0.5


def test_the_curves_of_others_say_how_far_an_early_score_falls() -> None:
    """Errors that halve over four doublings are expected to do so for one seen early alone."""
    rungs = [FULL >> k for k in (4, 3, 2, 1, 0)]
    fall = {n: 0.5 ** (np.log2(n / rungs[0]) / 4) for n in rungs}
    scores = [(c, measurement(0.8 * fall[n], n)) for c in POOL[6:12] for n in rungs]
    found = joint_posterior([*scores, (POOL[0], measurement(0.8, rungs[0]))], POOL, FULL)
    assert np.exp(found.mean[0]) == pytest.approx(0.4, abs=0.05)


def test_probabilities_and_intervals_hold_what_they_say() -> None:
    """Pools drawn from the model, a third of their pairs scored at early rungs, noise added.

    95 % intervals hold .95 of the ends, and pairs are the best as often as is said.
    """
    rng = np.random.default_rng(0)
    inside, said, was = [], [], []
    for _ in range(40):
        pool = drawn_pool(rng)
        scores = []
        for candidate in (POOL[n] for n in rng.permutation(len(POOL))[:9]):
            for samples, y in list(pool[candidate].items())[: rng.integers(2, 7)]:
                noisy = float(np.exp(min(y + rng.normal(0, 0.05), -0.005)))
                stderr = (0.05**2 - 0.03**2) ** 0.5 / PRIOR.medians[7] ** 0.5 * noisy
                scores.append((candidate, Measurement(samples, 1 - noisy, stderr)))
        found = joint_posterior(scores, POOL, FULL)
        truth = np.array([pool[c][FULL] for c in POOL])
        inside += list(np.abs(truth - found.mean) < 1.96 * found.deviation)
        best = int(truth.argmin())
        said.append(float(found.best @ found.best))
        was.append(float(found.best[best]))
    assert 0.9 <= np.mean(inside) <= 0.98
    assert np.mean(was) == pytest.approx(np.mean(said), rel=0.35)
    assert np.mean(was) > 2 / len(POOL)


def test_probabilities_of_being_best_add_up_and_know_correlations() -> None:
    """Two that go up and down together are told apart by a difference smaller than their noise."""
    mean = np.array([0.0, 0.1])
    apart = probability_of_best(mean, np.eye(2))
    together = probability_of_best(mean, 0.999 + 0.001 * np.eye(2))
    assert apart.sum() == together.sum() == pytest.approx(1.0)
    assert apart[0] == pytest.approx(0.528, abs=0.03)  # the normal's value at .1 / sqrt(2)
    assert together[0] > 0.98
    assert (apart == probability_of_best(mean, np.eye(2))).all()


def test_run_noise_is_estimated_from_scores_that_scatter() -> None:
    rng = np.random.default_rng(1)
    rungs = [FULL >> k for k in (5, 4, 3, 2, 1, 0)]

    def found(noise: float) -> float:
        scores = [
            (c, measurement(float(0.35 * (n / FULL) ** -0.1 * np.exp(rng.normal(0, noise))), n))
            for c in POOL[:12]
            for n in rungs
        ]
        return joint_posterior(scores, POOL, FULL).run_noise

    assert found(0.0) < 0.02
    assert found(0.2) == pytest.approx(0.2, rel=0.4)


def test_large_pools_are_done_in_pieces_and_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = [(c, measurement(0.3 + 0.02 * n)) for n, c in enumerate(POOL[::3])]
    whole = joint_posterior(scores, POOL, FULL)
    monkeypatch.setattr(posterior, "_CHUNK", 4)
    pieces = joint_posterior(scores, POOL, FULL)
    assert pieces.mean == pytest.approx(whole.mean)
    assert pieces.deviation == pytest.approx(whole.deviation)


def test_the_lowest_values_are_found_without_sorting_all() -> None:
    values = np.array([3.0, 1.0, 2.0, 1.0, 5.0, 2.0])
    for count in range(1, 7):
        assert lowest(values, count).tolist() == [1, 3, 2, 5, 0, 4][:count]


def test_pairs_looked_at_alone_are_independent() -> None:
    found = independent_posterior(POOL[:2], [-1.0, -0.9], [0.1, 0.1])
    assert found.best[0] == pytest.approx(0.76, abs=0.03)  # .1 / sqrt(.02) = .71
    assert found.run_noise == RUN_NOISE


def test_pools_of_independent_models_need_no_system_for_each_pair(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The fast way of large pools gives what the slow one does, for pairs with scores as well."""
    rungs = [FULL >> k for k in (3, 2, 0)]
    scores = [(c, measurement(0.3 + 0.02 * n, rungs[n % 3])) for n, c in enumerate(POOL[::2])]
    slow = JointModel(scores, POOL, FULL).posterior
    monkeypatch.setattr(posterior, "_CHUNK", 4)
    fast = JointModel(scores, POOL, FULL).posterior
    assert fast.mean == pytest.approx(slow.mean, abs=1e-9)
    assert fast.deviation == pytest.approx(slow.deviation, abs=1e-9)


def test_a_similar_encoder_is_believed_to_be_similar() -> None:
    """v0 is good; v1 has nearly its features, v2 has not, and neither was trained."""
    similar = np.eye(5)
    similar[0, 1] = similar[1, 0] = 0.95
    given = Similarities(tuple(map(tuple, similar.tolist())), None)
    errors = {"v0": 0.2, "v3": 0.5, "v4": 0.5}
    scores = [(Candidate(v, "m0"), measurement(e)) for v, e in errors.items()]
    found = joint_posterior(scores, POOL, FULL, given)
    by = dict(zip(found.candidates, found.mean, strict=True))
    assert by[Candidate("v1", "m0")] < by[Candidate("v2", "m0")] - 0.05


def test_likelihoods_order_pairs_whose_scores_are_equal() -> None:
    """At 1/16, where scores are still at chance; the same at full training is not used."""

    def gap(samples: int) -> float:
        scores = [
            (POOL[n], Measurement(samples, 0.5, 0.03, 300, p_correct=p, p_correct_stderr=0.01))
            for n, p in ((0, 0.6), (6, 0.45), (12, 0.45), (18, 0.45))
        ]
        found = joint_posterior(scores, POOL, FULL)
        return float(found.mean[6] - found.mean[0])

    assert gap(FULL // 16) > 0.03
    assert gap(FULL) == pytest.approx(0.0, abs=1e-6)


def test_expected_regret_and_contrasts_agree_with_the_draws() -> None:
    found = joint_posterior(
        [(POOL[n], measurement(0.3 + 0.01 * n, stderr=0.02)) for n in range(6)], POOL, FULL
    )
    leader = int(found.mean.argmin())
    regrets = [found.expected_regret(int(n)) for n in found.drawn]
    assert 0 < min(regrets) == found.expected_regret(leader)
    mean, deviation = found.contrast(0, 1)
    columns = [int(np.flatnonzero(found.drawn == n)[0]) for n in (0, 1)]
    draws = found.draws[:, columns[0]] - found.draws[:, columns[1]]
    assert mean == pytest.approx(float(found.mean[0] - found.mean[1]))
    assert draws.mean() == pytest.approx(mean, abs=0.01)
    assert draws.std() == pytest.approx(deviation, rel=0.1)


def test_small_pools_and_bare_scores() -> None:
    """2 x 2 pairs, a single score, no standard error, no documents."""
    pool = [Candidate(v, m) for v in "ab" for m in "cd"]
    found = joint_posterior([(pool[0], Measurement(FULL, 0.7))], pool, FULL)
    assert np.isfinite(found.deviation).all()
    assert int(found.mean.argmin()) == 0


def test_a_growing_list_is_extended_and_gives_what_a_new_model_gives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With likelihoods between the scores; the hyperparameters are those of the first 4."""
    monkeypatch.setattr(posterior, "_REFITTED", 4)
    rungs = [FULL >> k for k in (4, 1, 0)]
    scores = [
        (
            c,
            Measurement(
                rungs[n % 3], 0.5 + 0.01 * n, 0.02, 300, p_correct=0.4, p_correct_stderr=0.02
            ),
        )
        for n, c in enumerate(POOL[:15])
    ]
    alone = JointModel.following(None, scores[:7], POOL, FULL)
    grown = JointModel.following(alone, scores[:7] + [], POOL, FULL)
    assert grown.values == JointModel(scores[:4], POOL, FULL).values
    before = JointModel.following(None, scores[:5], POOL, FULL)
    extended = JointModel.following(before, scores[:7], POOL, FULL)
    assert extended.values == alone.values
    assert extended.posterior.mean == pytest.approx(alone.posterior.mean, abs=1e-9)
    assert extended.posterior.deviation == pytest.approx(alone.posterior.deviation, abs=1e-9)
    refitted = JointModel.following(extended, scores[:9], POOL, FULL)
    assert refitted.values == JointModel(scores[:8], POOL, FULL).values


def test_a_start_at_one_rung_expects_the_fall_of_measured_pools() -> None:
    """Scores at 1/8 alone do not show the slope; the pools it is taken from fall by 0 to .5."""
    found = joint_posterior([(c, measurement(0.5, FULL // 8)) for c in POOL], POOL, FULL)
    fall = np.log(0.5) - found.mean.mean()
    _, covariance = found.joint(np.arange(len(POOL)))
    deviation = float(np.sqrt(covariance.mean()))
    assert fall - 1.96 * deviation < 0.0 < 0.15 < fall < 0.4
    assert 0.5 < fall + 1.96 * deviation < 1.0
