"""OBOE with other tasks: what they give, and what is left to learn from the task itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from benchmarks.minigrid.tables.bootstrap import with_scores
from benchmarks.rivals_search.oboe_tasks import OboeTasksPlan, TasksRanker, factorise, learn
from mordal_optuna.errors import SearchError
from mordal_optuna.replay.light import run_light
from mordal_optuna.replay.metrics import weighted_tau
from mordal_optuna.replay.synthetic import synthetic_grid
from mordal_optuna.search.budget import Budget
from mordal_optuna.search.clusters import ClusterTree
from mordal_optuna.search.history import CandidateHistory, History

if TYPE_CHECKING:
    from mordal_optuna.replay.grid import Grid

RATIO = 1 / 8


def task_errors(
    count: int, *, rank: int = 2, noise: float = 0.01, surprise: float = 0.0
) -> np.ndarray:
    """Tasks x (pairs at R, pairs at D) that share `rank` profiles of the pairs.

    `surprise` is what each pair of each task has of its own, at R and at D alike.
    """
    rng = np.random.default_rng(0)
    profiles = rng.normal(0, 0.3, (rank, 49))
    own = rng.normal(0, 1, (count, rank))
    final = -0.9 + own @ profiles
    both = np.concatenate((final * 0.8 + 0.2, final), axis=1)
    own_errors = np.tile(rng.normal(0, surprise, (count, 49)), 2)
    return both + own_errors + rng.normal(0, noise, both.shape)


def grids(count: int, **options: float) -> list[Grid]:
    """Tasks of one pool, with the errors of `task_errors` at 1/8 and at 1."""
    plain = synthetic_grid(0)
    made = []
    for row in task_errors(count, **options):  # type: ignore[arg-type]
        scores = np.full((49, 6), 0.1)
        scores[:, 2], scores[:, 5] = 1 - np.exp(row[:49]), 1 - np.exp(row[49:])
        made.append(with_scores(plain, np.clip(scores, 0, 1), np.full((49, 6), 0.01)))
    return made


def plan(grid: Grid, others: list[Grid], runs: float, *, finish: bool = True) -> OboeTasksPlan:
    tree = ClusterTree.flat(grid.encoders, grid.llms)
    budget = Budget(runs * grid.full_run_seconds / 3600)
    rungs = grid.curves[0].samples
    return OboeTasksPlan(tree, rungs, others, ratio=RATIO, finish=finish, budget=budget)


def test_profiles_shared_by_all_tasks_are_found() -> None:
    y = task_errors(7)
    features = factorise(y, 2)
    for row in y:
        a, _ = features.coefficients(np.arange(98), row, 0.01**2)
        assert np.abs(row - features.predicted(a)).mean() < 0.02
    assert features.rank == 2


def test_the_rank_is_the_one_that_predicts_tasks_left_out() -> None:
    assert learn(task_errors(7, rank=2)).features.rank == 2
    assert learn(task_errors(7, rank=1)).features.rank == 1


def test_what_a_score_deviates_by_is_carried_over_as_far_as_other_tasks_show() -> None:
    """Every task has its own surprises: they last from R to D, or they do not."""
    rng = np.random.default_rng(1)
    y = task_errors(7, rank=1)
    own = rng.normal(0, 0.2, (7, 49))
    lasting = y + np.concatenate((own, own), axis=1)
    passing = y + np.concatenate((own, np.zeros((7, 49))), axis=1)
    assert learn(lasting).carried > 0.7
    assert learn(passing).carried < 0.3


def test_a_few_experiments_rank_the_pool_of_a_task_like_the_others() -> None:
    grid, *others = grids(7)
    tasks = plan(grid, others, 1.0, finish=False)
    search = run_light(tasks, grid)
    assert len(search.simulated.jobs) < 10
    assert {n for _, n in search.simulated.jobs} == {round(RATIO * grid.full_samples)}
    ranking = tasks.ranking(search.history)
    truths = [grid.truth(e.candidate) for e in ranking]
    assert weighted_tau([e.value for e in ranking], truths) > 0.9


def test_half_of_the_budget_is_for_the_best_predicted_pairs() -> None:
    grid, *others = grids(7)
    tasks = plan(grid, others, 4.0)
    history = run_light(tasks, grid).history
    full = [c for c, r in history.candidates.items() if r.at(grid.full_samples)]
    assert full
    design = sum(r.seconds for c, r in history.candidates.items() if c not in full)
    assert design < 2.1 * grid.full_run_seconds
    assert tasks.winner(history) == max(full, key=lambda c: grid.truth(c))


def test_a_pair_that_was_trained_fully_is_ranked_by_its_own_score() -> None:
    grid, *others = grids(7)
    tree = ClusterTree.flat(grid.encoders, grid.llms)
    ranker = TasksRanker(tree, grid.full_samples // 8, grid.full_samples, others)
    pair = grid.candidates[3]
    history = History({pair: CandidateHistory((grid.measurement(pair, grid.full_samples),))})
    value = {e.candidate: e.value for e in ranker.rank(history)}[pair]
    assert value == pytest.approx(grid.truth(pair))


def test_what_a_score_deviates_by_moves_the_estimate_of_its_pair() -> None:
    """By the share that tasks left out have shown."""
    grid, *others = grids(7, surprise=0.15)
    tree = ClusterTree.flat(grid.encoders, grid.llms)
    low = grid.full_samples // 8
    ranker = TasksRanker(tree, low, grid.full_samples, others)
    history = {c: CandidateHistory((grid.measurement(c, low),)) for c in grid.candidates}
    estimates = ranker.posterior(History(history)).mean
    a, _ = ranker.state(History(history))
    plain = ranker.learned.features.predicted(a)
    seen = np.array([history[c].measurements[0].log_error for c in grid.candidates])
    lifted = estimates - plain[49:]
    np.testing.assert_allclose(lifted, ranker.learned.carried * (seen - plain[:49]))
    assert np.abs(lifted).max() > 0.05


def test_fewer_than_three_other_tasks_are_refused() -> None:
    grid, *others = grids(3)
    with pytest.raises(SearchError, match="others: got 2 tasks"):
        plan(grid, others, 3.0)
