"""The method `grid`."""

from __future__ import annotations

from mordal_optuna.search.attributes import STOPPED_BECAUSE
from mordal_optuna.search.methods.grid import grid_plan
from tests.search.synthetic import FULL, RUNGS, search, table, tree


def test_the_grid_ends_once_every_candidate_is_trained() -> None:
    study = search(grid_plan(tree(), (*RUNGS, FULL)), table())
    assert study.user_attrs[STOPPED_BECAUSE] == (
        "pool exhausted: all planned candidates are fully trained"
    )


def test_the_grid_trains_everyone_fully() -> None:
    measure = table()
    grid = grid_plan(tree(), (*RUNGS, FULL))
    search(grid, measure)
    assert {c for c, samples in measure.runs if samples == FULL} == set(tree().candidates)
    assert len(measure.runs) == len(set(measure.runs)) == 9 * 4
