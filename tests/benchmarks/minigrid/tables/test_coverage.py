"""Coverage: every estimate is of one kind, and intervals that are too narrow are seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.minigrid.tables.coverage import (
    ALONE,
    AT_R,
    COMPARED,
    IN_RACE,
    KINDS,
    TOGETHER,
    UNSEEN,
    coverage,
    covered,
)
from mordal_optuna.replay.light import run_light
from mordal_optuna.replay.run import method_settings, set_up
from mordal_optuna.search.plan import PooledPlan

if TYPE_CHECKING:
    from benchmarks.minigrid.tables.data import TaskData


def test_kinds_share_out_all_estimates(tasks: tuple[TaskData, ...]) -> None:
    found = coverage(tasks[0], replicates=2)
    assert list(found) == list(COMPARED)
    assert set(found[TOGETHER]) <= set(KINDS)
    assert sum(own.share for own in found[TOGETHER].values()) == pytest.approx(1)
    # who was never trained has no curve of its own
    assert found[ALONE].keys() == found[TOGETHER].keys() - {UNSEEN}


def test_who_races_is_counted_there(tasks: tuple[TaskData, ...]) -> None:
    data = tasks[0]
    setup = set_up(data.grid, "mordal", method_settings("mordal"), 0, None)
    assert isinstance(setup.plan, PooledPlan)
    history = run_light(setup.plan, data.grid).history
    race = [c for c in data.grid.candidates if history.of(c).top >= setup.plan.finish_rungs[0]]
    found = covered(setup, [data.grid])[TOGETHER]
    assert found[IN_RACE].share == pytest.approx(len(race) / len(data.grid.candidates))


def test_narrow_intervals_hold_the_truth_less_often(tasks: tuple[TaskData, ...]) -> None:
    grid, found = tasks[0].grid, []
    for confidence in (0.05, 0.95, 0.9999):
        settings = method_settings("mordal").model_copy(update={"confidence": confidence})
        found.append(covered(set_up(grid, "mordal", settings, 0, None), [grid])[TOGETHER][AT_R])
    narrow, usual, wide = found
    assert narrow.covered < 0.3 < usual.covered <= wide.covered == 1
    assert narrow.half_width < usual.half_width < wide.half_width
    assert narrow.error == usual.error == wide.error
    assert narrow.bias == usual.bias == wide.bias
    assert 0 <= abs(usual.bias) <= usual.error
