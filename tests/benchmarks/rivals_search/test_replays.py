"""Each search is what the same method gives by itself; results survive a stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.minigrid.tables.bootstrap import Resampler, full_data
from benchmarks.minigrid.tables.data import read_tasks
from benchmarks.minigrid.tables.methods import figures, light_replay
from benchmarks.rivals_search.replays import (
    LARGE,
    SYNTHETIC,
    Key,
    keys_of,
    read_results,
    run_grid,
    to_lines,
)
from mordal_optuna.replay.run import replay
from mordal_optuna.replay.synthetic import synthetic_grid
from tests.benchmarks.rivals_search.conftest import TASKS

if TYPE_CHECKING:
    from pathlib import Path


def test_a_bootstrap_is_that_of_the_minigrids_tables(folder: Path) -> None:
    """The same documents and seeds as there: `mordal` gives the same figures."""
    key = Key("chartqa", 3, "mordal-to-its-end", 0.0)
    found = run_grid(folder, TASKS, [key])[key]
    data = read_tasks(folder, TASKS)[1]
    seen = Resampler(data).replicate(3)
    run = light_replay(seen.grid, "mordal", seed=3, draws=10, truths=seen.truth)
    again = figures(run, seen, full_data(data))
    for figure in ("tau", "regret", "cost", "cost_warmup"):
        assert found[figure] == pytest.approx(again[figure])
    assert found["tau_joint"] == pytest.approx(again["tau"])


def test_negative_numbers_are_the_full_data(folder: Path) -> None:
    key = Key("gqa", -2, "optuna-tpe-hyperband", 2.0)
    found = run_grid(folder, TASKS, [key])[key]
    data = read_tasks(folder, TASKS)[0]
    again = replay(
        data.grid, "optuna-tpe-hyperband", seed=1, budget=2.0, truths=full_data(data).truth
    )
    assert found["tau"] == pytest.approx(again.tau)
    assert found["cost"] == pytest.approx(again.full_runs)


def test_synthetic_grids_are_numbered_by_seed() -> None:
    key = Key(SYNTHETIC, 4, "cross", 0.0)
    found = run_grid(folder=None, tasks=(), keys=[key])[key]  # type: ignore[arg-type]
    again = replay(synthetic_grid(4), "cross", seed=4)
    assert found["tau"] == pytest.approx(again.tau)
    assert found["regret"] == pytest.approx(again.regret)
    assert found["tau_joint"] != found["tau"]  # `cross` has a ranking of its own


def test_large_grids_have_16_models_a_side() -> None:
    key = Key(LARGE, 1, "joint", 4.6)
    found = run_grid(folder=None, tasks=(), keys=[key])[key]  # type: ignore[arg-type]
    grid = synthetic_grid(1, encoders=16, llms=16)
    again = light_replay(grid, "joint", seed=1, budget=4.6)
    assert found["tau"] == pytest.approx(again.tau)
    assert found["cost"] == pytest.approx(again.full_runs)


def test_other_tasks_are_needed_only_where_there_are_some() -> None:
    methods, budgets = ["mordal-to-its-end", "asha-2", "oboe-tasks"], [3.0, 4.0]
    assert len(keys_of("gqa", 0, methods, budgets)) == 5
    assert len(keys_of(SYNTHETIC, 0, methods, budgets)) == 3


def test_results_are_read_back_without_a_line_that_was_cut_off(tmp_path: Path) -> None:
    results = {
        Key("gqa", 0, "asha-2", 3.0): {"tau": 0.5, "regret": 0.0},
        Key(SYNTHETIC, 7, "cross", 0.0): {"tau": 0.25},
    }
    path = tmp_path / "runs.jsonl"
    assert read_results(path) == {}
    path.write_text(to_lines(results) + '{"key": ["gqa", 1, "as', encoding="utf-8")
    assert read_results(path) == results
