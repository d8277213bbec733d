"""Idle shares on the simulated clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.minigrid.tables.markdown import table
from benchmarks.search_overhead.idle import kept, search

if TYPE_CHECKING:
    from pathlib import Path


def test_idle_shares_are_shares_and_no_order_of_the_jobs_is_better_than_the_least() -> None:
    found = search(7, 4.0, 8, 1, 0)
    assert 0 <= found.least < found.idle < 1
    assert 3 < found.full_runs < 4.5
    assert 0 <= found.regret < 1


def test_rows_of_an_earlier_run_are_kept_if_they_have_as_many_grids(tmp_path: Path) -> None:
    path, title = tmp_path / "idle.md", "8 workers, 10 grids a row."
    assert kept(path, title) == []
    text = table(["pool", "budget", "idle"], [["7 x 7", "4", "0.54"], ["7 x 7", "8", "0.31"]])
    path.write_text(f"{title}\n\n{text}\n", encoding="utf-8")
    assert kept(path, title) == [["7 x 7", "4", "0.54"], ["7 x 7", "8", "0.31"]]
    assert kept(path, "8 workers, 3 grids a row.") == []
