"""Several tasks in one search, on grids of one pool."""

from __future__ import annotations

import pytest

from benchmarks.minigrid.tables.bootstrap import Replicate
from benchmarks.minigrid.tables.several import SeveralGrids, searched
from mordal_optuna.replay.synthetic import synthetic_grid
from mordal_optuna.search.joint import multitask

GRIDS = {name: synthetic_grid(seed) for name, seed in (("one", 0), ("two", 1))}


def test_a_score_on_all_tasks_costs_one_training() -> None:
    candidate, rung = GRIDS["one"].candidates[3], GRIDS["one"].full_samples
    both = SeveralGrids(GRIDS).measurement(candidate, rung)
    parts = [grid.measurement(candidate, rung) for grid in GRIDS.values()]
    assert both.score == pytest.approx((parts[0].score + parts[1].score) / 2)
    assert both.train_seconds == max(p.train_seconds for p in parts)
    assert both.eval_seconds == sum(p.eval_seconds for p in parts)


def test_a_larger_budget_costs_more_and_ranks_better() -> None:
    seen = {
        name: Replicate(grid, {c: grid.truth(c) for c in grid.candidates})
        for name, grid in GRIDS.items()
    }
    small, large = (searched(seen, seen, budget, seed=0) for budget in (2.5, 12.0))
    assert small["everything"] <= 2.6
    assert small["training"] < small["everything"] < large["everything"] <= 12.5
    assert large["tau"] > small["tau"]
    assert large["one_regret"] <= small["one_regret"]


def test_apart_is_the_search_whose_tasks_share_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its mean is ranked by the means, and its tasks by their own scores."""
    grids = {"one": GRIDS["one"], "two": GRIDS["one"]}  # the same curves: there is much to share
    seen = {
        name: Replicate(grid, {c: grid.truth(c) for c in grid.candidates})
        for name, grid in grids.items()
    }
    together = searched(seen, seen, 2.5, seed=0)
    monkeypatch.setattr(multitask, "MOST_PAIRS", 0)
    alone = searched(seen, seen, 2.5, seed=0, apart=True)
    assert together != alone
    assert alone["one_tau"] == pytest.approx(alone["tau"], abs=0.05)  # the mean is each task
