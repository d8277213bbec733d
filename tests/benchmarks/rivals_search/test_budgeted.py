"""Prices are learned from what was paid, and a job that does not fit is not begun."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.rivals_search.asha import AshaPlan
from benchmarks.rivals_search.budgeted import Prices
from mordal_optuna.pool import Candidate
from mordal_optuna.replay.light import run_light
from mordal_optuna.replay.synthetic import synthetic_grid
from mordal_optuna.search.budget import Budget
from mordal_optuna.search.clusters import ClusterTree
from mordal_optuna.search.curves import Measurement
from mordal_optuna.search.history import CandidateHistory, History
from mordal_optuna.search.jobs import Finished, Job
from mordal_optuna.search.ranking import Ranker

A, B, C, D = (Candidate(v, m) for v in "ab" for m in "xy")
TREE = ClusterTree.flat(("a", "b"), ("x", "y"))
RUNGS = (100, 200, 400)


def scored(score: float = 0.5, *, rate: float = 1.0, top: int = 100) -> CandidateHistory:
    rungs = [n for n in RUNGS if n <= top]
    return CandidateHistory(tuple(Measurement(n, score, 0.01, 500, n * rate, 10.0) for n in rungs))


def plan(seconds: float | None, **options: int) -> AshaPlan:
    budget = Budget(None if seconds is None else seconds / 3600)
    return AshaPlan(TREE, RUNGS, Ranker(TREE, RUNGS[-1]), budget=budget, **options)


def test_a_pair_trains_at_its_own_rate_else_at_its_llms_else_at_the_mean() -> None:
    prices = Prices(History({A: scored(rate=1.0), B: scored(rate=3.0, top=200)}))
    assert prices.seconds(B, scored(rate=3.0, top=200), 400) == pytest.approx(3 * 200 + 10)
    assert prices.seconds(C, CandidateHistory(), 100) == pytest.approx(1 * 100 + 10)
    other = Candidate("b", "z")
    assert prices.seconds(other, CandidateHistory(), 100) == pytest.approx(2 * 100 + 10)
    assert Prices(History()).seconds(A, CandidateHistory(), 400) == 0


def test_a_job_that_does_not_fit_is_left_out_and_a_cheaper_one_is_taken() -> None:
    """Of four pairs at the lowest rung the best two are promoted: 110 seconds each."""
    history = History({c: scored(s) for c, s in ((A, 0.9), (B, 0.8), (C, 0.2), (D, 0.1))})
    spent = 4 * 110.0
    assert plan(spent + 110).jobs(history) == [Job(A, 200, "promotion")]
    assert isinstance(plan(spent + 109).jobs(history), Finished)
    three = History({c: history.of(c) for c in (A, B, C)})
    dear = History({**three.candidates, A: scored(0.9, rate=5.0)})
    left = 5 * 100 + 10 + 2 * 110.0
    # The promotion of A costs 510 and does not fit; the fourth pair at y's rate costs 110.
    assert plan(left + 200).jobs(dear) == [Job(D, 100, "new")]


def test_running_jobs_are_listed_and_their_cost_is_reserved() -> None:
    history = History({A: scored(0.9), B: scored(0.8), C: scored(0.2)})
    running = replace(history.of(A), running=True, granted=200)
    busy = History({**history.candidates, A: running})
    assert plan(None).jobs(busy) == [Job(A, 200, "running"), Job(D, 100, "new")]
    assert plan(3 * 110 + 219).jobs(busy) == [Job(A, 200, "running")]


def test_a_search_stays_within_its_budget() -> None:
    grid = synthetic_grid(0)
    tree = ClusterTree.flat(grid.encoders, grid.llms)
    seconds = 3 * grid.full_run_seconds
    ranker = Ranker(tree, grid.full_samples)
    asha = AshaPlan(tree, grid.curves[0].samples, ranker, budget=Budget(seconds / 3600))
    search = run_light(asha, grid)
    # Rates of pairs that were not trained are estimates, so a small excess is possible.
    assert 0.9 * seconds < search.history.seconds < 1.02 * seconds


def test_nothing_to_train_is_a_failure() -> None:
    failed = History({c: CandidateHistory(failures=2) for c in (A, B, C, D)})
    found = plan(None).jobs(failed)
    assert isinstance(found, Finished)
    assert found.failed
