"""Statistics of the truth, against known cases and independent computations."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy import stats

from benchmarks.minigrid.tables.bootstrap import Resampler
from benchmarks.minigrid.tables.truth import (
    Squares,
    agreement,
    describe,
    lead_noise,
    near_best,
    redrawn_truths,
    seed_noise,
    shares,
    silver_bullet,
    two_way,
    without_noise,
)
from tests.benchmarks.minigrid.files import TASKS

if TYPE_CHECKING:
    from benchmarks.minigrid.tables.data import TaskData


def test_squares_are_those_of_a_regression() -> None:
    """Against least squares on dummy variables, which knows nothing of row and column means."""
    table = np.random.default_rng(0).normal(size=(4, 3))
    rows, columns = np.divmod(np.arange(12), 3)
    flat = table.reshape(-1)

    def residual(*factors: np.ndarray) -> float:
        design = np.concatenate([np.ones((12, 1)), *(np.eye(4)[f] for f in factors)], axis=1)
        return float(((flat - design @ (np.linalg.pinv(design) @ flat)) ** 2).sum())

    found = two_way(table)
    assert found.interaction == pytest.approx(residual(rows, columns))
    assert found.encoder == pytest.approx(residual(columns) - residual(rows, columns))
    assert found.llm == pytest.approx(residual(rows) - residual(rows, columns))
    assert found.total == pytest.approx(residual())


def test_a_purely_additive_table_has_no_interaction() -> None:
    table = np.array([0.0, 1.0, 3.0])[:, None] + np.array([0.0, 2.0])[None]
    assert shares(two_way(table))[2] == pytest.approx(0, abs=1e-12)
    assert sum(shares(two_way(table))) == pytest.approx(1)
    assert shares(two_way(np.ones((3, 3)))) == (0, 0, 0)


def test_noise_is_taken_out_of_every_share() -> None:
    """Additive truth, noise of known size: the corrected interaction is nearly nothing."""
    rng = np.random.default_rng(1)
    additive = rng.normal(0, 0.3, (7, 1)) + rng.normal(0, 0.2, (1, 7))
    seen = additive + rng.normal(0, 0.1, (7, 7))
    noise = [two_way(rng.normal(0, 0.1, (7, 7))) for _ in range(400)]
    # an interaction has (M - 1)(L - 1) degrees of freedom, a main effect M - 1
    assert np.mean([n.interaction for n in noise]) == pytest.approx(36 * 0.01, rel=0.05)
    assert np.mean([n.encoder for n in noise]) == pytest.approx(6 * 0.01, rel=0.1)
    raw, clean = two_way(seen), without_noise(two_way(seen), noise)
    assert shares(clean)[2] < 0.3 * shares(raw)[2]
    assert without_noise(Squares(1, 1, 0.1), [Squares(0, 0, 0.2)]).interaction == 0


def test_noise_that_all_pairs_share_is_no_interaction() -> None:
    squares = two_way(np.full((7, 7), 0.3))
    assert squares.total == pytest.approx(0, abs=1e-12)


def test_seed_noise_is_a_pairs_own_or_pooled_on_z(tasks: tuple[TaskData, ...]) -> None:
    data = tasks[0]
    found, scores = seed_noise(data), data.run_scores[:, -1]
    own = [scores[data.run_pairs == pair] for pair in range(9)]
    several = [pair for pair in range(9) if len(own[pair]) > 1]
    assert found[several] == pytest.approx([np.std(own[pair], ddof=1) for pair in several])
    z = [np.var(np.arcsin(np.sqrt(own[pair])), ddof=1) for pair in several]
    slope = 2 * (scores[2] * (1 - scores[2])) ** 0.5
    assert len(own[2]) == 1
    assert found[2] == pytest.approx(np.mean(z) ** 0.5 * slope)


def test_runs_agree_with_the_mean_of_the_others(tasks: tuple[TaskData, ...]) -> None:
    """By hand on pairs with up to three runs; a pair with a single run has no others."""
    data = tasks[0]
    scores = data.run_scores[:, -1]
    own = [scores[data.run_pairs == pair] for pair in range(9) if data.run_counts[pair] > 1]
    found = agreement(data)
    assert found.pairs == len(own) == 6
    taus, lost = [], []
    for run in range(3):
        rows = [(s[run], np.delete(s, run).mean()) for s in own if len(s) > run]
        one, others = np.array(rows).T
        taus.append(stats.weightedtau(one, others).statistic)
        lost.append(others.max() - others[one.argmax()])
    assert found.tau == pytest.approx(np.mean(taus))
    assert found.regret == pytest.approx(np.mean(lost))


def test_more_runs_make_a_truth_less_noisy(tasks: tuple[TaskData, ...]) -> None:
    """The same runs counted twice: on the same documents the seeds' noise falls by half."""
    data = tasks[0]
    single = replace(data, clusters=np.repeat([0, 1], len(data.clusters) // 2))
    again = np.concatenate((data.further_values, data.run_values))
    pairs = (*data.further_pairs, *data.run_pairs.tolist())
    twice = replace(
        single,
        further_values=again,
        further_pairs=pairs,
        further_nlls=None,
        further_p_correct=None,
    )
    noise = [redrawn_truths(d, 400) - redrawn_truths_of_documents(d, 400) for d in (single, twice)]
    several = data.run_counts > 2
    once, half = ((n[:, several] ** 2).mean() for n in noise)
    assert 0.3 < half / once < 0.6


def redrawn_truths_of_documents(data: TaskData, count: int) -> np.ndarray:
    resampler = Resampler(data)
    return np.array([resampler.truth(number)[:, -1] for number in range(count)])


def test_a_lead_is_paired() -> None:
    """Noise that two pairs share cancels in the lead of one over the other."""
    rng = np.random.default_rng(0)
    shared = rng.normal(0, 0.1, (500, 1))
    own = rng.normal(0, 0.01, (500, 3))
    final = np.array([0.5, 0.49, 0.3])
    found = lead_noise(final, final + shared + own)
    assert found[0] == 0
    assert found[1] == pytest.approx(0.01 * 2**0.5, rel=0.1)
    assert near_best(final, final + shared + own).tolist() == [True, True, False]


def test_a_task_is_described(tasks: tuple[TaskData, ...]) -> None:
    data = tasks[0]
    found = describe(data, replicates=200)
    final = data.truth[:, -1]
    assert found.best_score == final.max()
    assert found.worst_score == final.min()
    stderr = [data.grid.measurement(c, data.samples[-1]).stderr for c in data.grid.candidates]
    # the bootstrap of clusters and the clustered standard error are the same thing
    alone = [pair.documents for pair in found.pairs.values() if pair.runs == 1]
    assert alone == pytest.approx(np.array(stderr)[data.run_counts == 1], rel=0.2)
    for pair in found.pairs.values():
        squares = pair.documents**2 + pair.seeds**2 / pair.runs
        assert pair.noise == pytest.approx(squares**0.5)
    assert found.tau[-1] == pytest.approx(1)
    assert found.spearman[-1] == pytest.approx(1)
    own = stats.weightedtau(data.scores[:, 0], data.scores[:, -1]).statistic
    assert found.tau[0] == pytest.approx(own)
    assert sum(found.regime) == pytest.approx(1)
    assert sum(found.regime[-2:]) == 0  # a window has at least three rungs
    assert 1 <= found.within_noise <= len(final)


def test_a_pair_that_is_best_everywhere_is_a_silver_bullet(tasks: tuple[TaskData, ...]) -> None:
    one = silver_bullet(tasks[:1], replicates=50)
    best = int(tasks[0].truth[:, -1].argmax())
    assert one.average in one.bullets
    assert one.average == str(tasks[0].grid.candidates[best])
    assert one.regrets == {TASKS[0]: 0}
    both = silver_bullet(tasks, replicates=50)
    other = silver_bullet(tasks[1:], replicates=50)
    assert len(one.bullets) == describe(tasks[0], replicates=50).within_noise < 9
    assert set(both.bullets) == set(one.bullets) & set(other.bullets)
    assert both.most_tasks == 1 + bool(both.bullets)
    mean = np.mean([data.truth[:, -1] for data in tasks], axis=0)
    assert both.average == str(tasks[0].grid.candidates[int(mean.argmax())])
