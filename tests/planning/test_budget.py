"""The shipped table of regret by budget."""

from __future__ import annotations

import pytest

from mordal_optuna.planning.budget import METHODS, budgets


@pytest.mark.parametrize("method", METHODS)
def test_more_budget_buys_less_regret(method: str) -> None:
    """From the least to the largest budget, on drawn pools and on the minigrid."""
    found = budgets(method, 7, 7, 2.0)
    assert found
    assert found.pool == "7 x 7"
    assert found.rows[0].regret > found.rows[-1].regret
    assert found.rows[0].best < found.rows[-1].best
    assert [row.hours for row in found.rows] == [2 * row.full_runs for row in found.rows]


def test_the_nearest_size_is_taken_and_the_grid_left_out() -> None:
    found = budgets("mordal-faithful", 3, 4, 1.0)
    assert found
    assert (found.method, found.pool) == ("mordal", "3 x 4")
    assert max(row.full_runs for row in found.rows) < 12
    assert budgets("grid", 3, 4, 1.0) is None
