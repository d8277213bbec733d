"""What a search still has to spend is what it then spends, where costs are the same for all."""

from __future__ import annotations

import pytest

from mordal_optuna.search.history import History
from mordal_optuna.search.methods.grid import grid_plan
from mordal_optuna.search.sampler import study_history
from mordal_optuna.study.forecast import seconds_left
from tests.search.synthetic import FULL, RUNGS, plan, search, table, tree


@pytest.mark.parametrize("trials", [1, 3, 6, 200])
@pytest.mark.parametrize("chosen", [plan(), grid_plan(tree(), (*RUNGS, FULL))])
def test_the_rest_of_a_plan(chosen: object, trials: int) -> None:
    """In the synthetic grid a sample costs 0.01 s and a score 1 s, for all pairs."""
    part = study_history(search(chosen, table(), n_trials=trials))  # type: ignore[arg-type]
    whole = study_history(search(chosen, table()))  # type: ignore[arg-type]
    left = seconds_left(chosen, part)  # type: ignore[arg-type]
    assert left == pytest.approx(whole.seconds - part.seconds, rel=0.15, abs=1e-6)


def test_nothing_is_known_before_the_first_cost() -> None:
    assert seconds_left(plan(), History()) is None
