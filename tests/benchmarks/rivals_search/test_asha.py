"""ASHA's promotions, against the algorithm of the paper written out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from benchmarks.rivals_search.asha import AshaPlan
from mordal_optuna.errors import SearchError
from mordal_optuna.replay.light import run_light
from mordal_optuna.replay.synthetic import synthetic_grid
from mordal_optuna.search.clusters import ClusterTree
from mordal_optuna.search.curves import Measurement
from mordal_optuna.search.history import CandidateHistory, History
from mordal_optuna.search.jobs import Job
from mordal_optuna.search.ranking import Ranker

if TYPE_CHECKING:
    from mordal_optuna.pool import Candidate
    from mordal_optuna.replay.grid import Grid


def plan(grid: Grid, *, eta: int, seed: int = 0) -> AshaPlan:
    tree = ClusterTree.flat(grid.encoders, grid.llms)
    ranker = Ranker(tree, grid.full_samples)
    return AshaPlan(tree, grid.curves[0].samples, ranker, eta=eta, seed=seed)


def as_in_the_paper(grid: Grid, *, eta: int, seed: int) -> list[tuple[Candidate, int]]:
    """Algorithm 2 with one worker: `get_job` until it has nothing left."""
    rungs = grid.curves[0].samples
    order = np.random.default_rng(seed).permutation(len(grid.candidates))
    new = [grid.candidates[n] for n in order]
    place = {candidate: n for n, candidate in enumerate(new)}
    scores: list[dict[Candidate, float]] = [{} for _ in rungs]
    jobs = []
    while True:
        job = None
        for k in reversed(range(len(rungs) - 1)):
            ranked = sorted(scores[k], key=lambda c, own=scores[k]: (-own[c], place[c]))
            top = ranked[: len(ranked) // eta]
            waiting = [c for c in top if c not in scores[k + 1]]
            if waiting:
                job = (waiting[0], k + 1)
                break
        if job is None:
            if not new:
                return jobs
            job = (new.pop(0), 0)
        candidate, k = job
        scores[k][candidate] = grid.measurement(candidate, rungs[k]).score
        jobs.append((candidate, rungs[k]))


@pytest.mark.parametrize("eta", [2, 3, 4])
def test_jobs_are_those_of_the_paper(eta: int) -> None:
    grid = synthetic_grid(3, encoders=4, llms=5)
    run = run_light(plan(grid, eta=eta, seed=7), grid).simulated
    assert list(run.jobs) == as_in_the_paper(grid, eta=eta, seed=7)


def scores_of(rows: dict[Candidate, tuple[float, ...]], rungs: tuple[int, ...]) -> History:
    records = {
        c: CandidateHistory(
            tuple(Measurement(n, s, 0.01, 500) for n, s in zip(rungs, row, strict=False))
        )
        for c, row in rows.items()
    }
    return History(records)


def test_the_highest_promotion_comes_first() -> None:
    """Six pairs, three of them in the upper half; two of these are at the second rung already."""
    grid = synthetic_grid(0, encoders=2, llms=3)
    first, second, third, *others = grid.candidates
    rungs = grid.curves[0].samples
    rows = {first: (0.9, 0.9), second: (0.8, 0.8), third: (0.7,), **dict.fromkeys(others, (0.1,))}
    asha = plan(grid, eta=2)
    assert asha.jobs(scores_of(rows, rungs)) == [Job(first, rungs[2], "promotion")]
    rows[first] = (0.9, 0.9, 0.9)
    assert asha.jobs(scores_of(rows, rungs)) == [Job(third, rungs[1], "promotion")]


def test_the_answer_is_the_best_score_at_any_rung() -> None:
    """Even where a later score of the same pair is lower."""
    grid = synthetic_grid(0, encoders=2, llms=3)
    one, other, *_ = grid.candidates
    history = scores_of({one: (0.5, 0.9, 0.6), other: (0.6, 0.7, 0.8)}, grid.curves[0].samples)
    assert plan(grid, eta=2).winner(history) == one
    assert plan(grid, eta=2).winner(History()) is None


def test_eta_is_at_least_two() -> None:
    with pytest.raises(SearchError, match="eta"):
        plan(synthetic_grid(0), eta=1)
