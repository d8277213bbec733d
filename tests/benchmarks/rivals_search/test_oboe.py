"""Designed experiments within one study: what is trained, what is left for the finish."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from benchmarks.rivals_search.lowrank import RUN_NOISE
from benchmarks.rivals_search.oboe import LowRankRanker, OboePlan, information
from mordal_optuna.errors import SearchError
from mordal_optuna.replay.light import run_light
from mordal_optuna.replay.metrics import weighted_tau
from mordal_optuna.replay.synthetic import synthetic_grid
from mordal_optuna.search.budget import Budget
from mordal_optuna.search.clusters import ClusterTree
from mordal_optuna.search.history import CandidateHistory, History
from mordal_optuna.search.jobs import Job

if TYPE_CHECKING:
    from mordal_optuna.replay.grid import Grid


@pytest.fixture(scope="module")
def grid() -> Grid:
    return synthetic_grid(5)


def plan(grid: Grid, runs: float | None, *, finish: bool = True, seed: int = 0) -> OboePlan:
    tree = ClusterTree.flat(grid.encoders, grid.llms)
    budget = None if runs is None else Budget(runs * grid.full_run_seconds / 3600)
    rungs = grid.curves[0].samples
    return OboePlan(tree, rungs, ratios=(1 / 8,), finish=finish, seed=seed, budget=budget)


def test_the_design_looks_at_every_part(grid: Grid) -> None:
    """At one ratio: every encoder in the first fourteen pairs, every LLM however dear."""
    jobs = run_light(plan(grid, 3.0, finish=False), grid).simulated.jobs
    pairs = [candidate for candidate, _ in jobs]
    assert {c.vision_encoder for c in pairs[:14]} == set(grid.encoders)
    assert {c.llm for c in pairs} == set(grid.llms)
    assert len(set(pairs)) == len(pairs)
    assert {samples for _, samples in jobs} == {grid.full_samples // 8}


def test_the_best_predicted_pair_is_trained_fully_within_the_budget(grid: Grid) -> None:
    oboe = plan(grid, 3.0)
    search = run_light(oboe, grid)
    *design, (last, samples) = search.simulated.jobs
    assert samples == grid.full_samples
    assert all(n == grid.full_samples // 8 for _, n in design)
    before = search.history.below(grid.full_samples)
    assert oboe.ranking(before)[0].candidate == last == oboe.winner(search.history)
    assert search.history.seconds < 3.05 * grid.full_run_seconds


def test_without_a_finish_the_best_predicted_pair_is_the_answer(grid: Grid) -> None:
    oboe = plan(grid, 3.0, finish=False)
    history = run_light(oboe, grid).history
    assert oboe.winner(history) == oboe.ranking(history)[0].candidate
    assert oboe.winner(History()) is None


def test_a_pair_is_chosen_for_what_it_adds_to_ln_det_m_per_second(grid: Grid) -> None:
    oboe = plan(grid, None)
    rung = grid.full_samples // 8
    done = grid.candidates[::8]
    history = History({c: CandidateHistory((grid.measurement(c, rung),)) for c in done})
    job = oboe.design(history, np.inf)
    ranker = LowRankRanker(ClusterTree.flat(grid.encoders, grid.llms), (rung, grid.full_samples))
    known, model = ranker.known(history), ranker.model(history)
    matrix, noise = information(model, known), float(np.mean(known.variance))
    before = np.linalg.slogdet(matrix)[1]
    g = model.gradients(0).reshape(len(grid.candidates), -1)
    gain, worth = {}, {}
    for n, candidate in enumerate(grid.candidates):
        after = np.linalg.slogdet(matrix + np.outer(g[n], g[n]) / noise)[1]
        gain[candidate] = after - before
        worth[candidate] = gain[candidate] / oboe.price(history, candidate, rung)
    free = [c for c in grid.candidates if c not in done]
    best = max(free, key=lambda c: worth[c])
    assert job == Job(best, rung, "design")
    assert best != max(free, key=lambda c: gain[c])  # here the price matters


def test_all_pairs_of_the_design_rank_the_pool(grid: Grid) -> None:
    """With everything scored at 1/8, the low-rank prediction ranks as well as the scores."""
    rung = grid.full_samples // 8
    tree = ClusterTree.flat(grid.encoders, grid.llms)
    ranker = LowRankRanker(tree, (rung, grid.full_samples))
    history = History({c: CandidateHistory((grid.measurement(c, rung),)) for c in grid.candidates})
    ranking = ranker.rank(history)
    truths = [grid.truth(e.candidate) for e in ranking]
    found = weighted_tau([e.value for e in ranking], truths)
    plain = weighted_tau([grid.measurement(e.candidate, rung).score for e in ranking], truths)
    assert found > plain - 0.05
    assert all(e.high - e.low > 2 * 1.96 * RUN_NOISE * (1 - e.value) * 0.9 for e in ranking)


def test_ratios_are_those_of_rungs_below_a_full_alignment(grid: Grid) -> None:
    tree, rungs = ClusterTree.flat(grid.encoders, grid.llms), grid.curves[0].samples
    for ratios in ((), (1 / 3,), (1.0,), (1 / 8, 1 / 16)):
        with pytest.raises(SearchError, match="ratios"):
            OboePlan(tree, rungs, ratios=ratios)
    two = OboePlan(tree, rungs, ratios=(1 / 16, 1 / 8), finish=False, budget=Budget(0.05))
    jobs = run_light(two, grid).simulated.jobs
    assert [n for _, n in jobs[:4]] == [grid.full_samples // 16, grid.full_samples // 8] * 2
