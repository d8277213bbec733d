"""Idle shares on the simulated clock."""

from __future__ import annotations

from benchmarks.search_overhead.idle import search


def test_idle_shares_are_shares_and_no_order_of_the_jobs_is_better_than_the_least() -> None:
    found = search(7, 4.0, 8, 1, 0)
    assert 0 <= found.least < found.idle < 1
    assert 3 < found.full_runs < 4.5
    assert 0 <= found.regret < 1
