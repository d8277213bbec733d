"""Comparisons: intervals come from independent grids or seeds."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from mordal_optuna.errors import SearchError
from mordal_optuna.replay.compare import (
    ANSWER_COLUMNS,
    COLUMNS,
    ELAPSED,
    compare,
    print_comparison,
    summary,
)
from mordal_optuna.replay.metrics import interval_of_mean
from mordal_optuna.replay.run import replay
from mordal_optuna.replay.synthetic import synthetic_grid


def test_over_files_seeds_are_averaged_first() -> None:
    grids = [synthetic_grid(seed, encoders=3, llms=3) for seed in range(3)]
    (row,) = compare(grids, ["random"], seeds=2, budget=3)
    means = [
        np.mean([100 * replay(grid, "random", seed=s, budget=3).regret for s in range(2)])
        for grid in grids
    ]
    assert row.figures["regret"] == pytest.approx(interval_of_mean(means))
    assert row.replays == 6


def test_on_one_file_the_interval_is_over_seeds() -> None:
    grid = synthetic_grid(0, encoders=3, llms=3)
    plain, chance = compare([grid], ["mordal", "random"], seeds=4, budget=3)
    assert plain.figures["full_runs"][1] == 0  # nothing in it is random
    assert chance.figures["full_runs"][1] > 0


def test_a_figure_that_a_replay_lacks_is_not_averaged() -> None:
    grid = synthetic_grid(0, encoders=3, llms=3)
    known, unknown = replay(grid, "mordal"), replace(replay(grid, "mordal"), gain=None)
    row = summary("mordal", [[known, unknown]])
    assert row.figures["gain"] is None
    assert row.figures["full_runs"] == interval_of_mean([known.full_runs, known.full_runs])
    out = io.StringIO()
    print_comparison([row], Console(file=out, width=200), title="one table")
    assert out.getvalue().count("not known") == 1


def test_the_table_has_a_row_a_method_and_every_column() -> None:
    found = compare([synthetic_grid(0, encoders=3, llms=3)], ["mordal", "grid"], seeds=1)
    out = io.StringIO()
    print_comparison(found, Console(file=out, width=200), title="one table")
    text = out.getvalue()
    assert "one table" in text
    for word in ("mordal", "grid", *(column.title for column in (*COLUMNS, *ANSWER_COLUMNS))):
        assert word in text


def test_columns_are_explained_and_several_workers_have_an_elapsed_time() -> None:
    """One worker's elapsed time is the cost, so it is not shown."""
    (row,) = compare([synthetic_grid(0, encoders=3, llms=3)], ["mordal"], seeds=1, workers=2)
    alone, both = io.StringIO(), io.StringIO()
    for out, workers in ((alone, 1), (both, 2)):
        print_comparison([row], Console(file=out, width=130), title="one", workers=workers)
    for column in (*COLUMNS, *ANSWER_COLUMNS):
        assert column.meaning in " ".join(both.getvalue().split())
    assert "elapsed" not in alone.getvalue()
    seconds, _ = row.figures["elapsed"]
    assert f"{seconds:.0f}" in both.getvalue().splitlines()[2]
    assert ELAPSED.meaning in " ".join(both.getvalue().split())


def test_a_comparison_without_a_seed_is_refused() -> None:
    with pytest.raises(SearchError, match="seeds: got 0; it must be at least 1"):
        compare([synthetic_grid(0, encoders=2, llms=2)], ["grid"], seeds=0)
