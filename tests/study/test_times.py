"""Where a study's time went: sums over rungs, ratios of sums, and what is unknown."""

from __future__ import annotations

import pytest

from mordal_optuna.search.curves import Measurement
from mordal_optuna.study import growing
from mordal_optuna.study.times import PARTS, Times, times

FIRST = {"training": 3.0, "waiting": 1.0, "tokens": 90.0, "computed": 100.0}
SECOND = {"training": 6.0, "encoding": 2.0, "judging": 4.0, "tokens": 180.0, "computed": 200.0}
SECOND |= {"operations": 3e9, "possible": 6e9}


def added(*rungs: dict[str, float]) -> Times:
    return times([Measurement(8, 0.5, time=rung) for rung in rungs], comparing=5.0)


def test_seconds_and_counts_of_all_rungs_are_added_up() -> None:
    sums = added(FIRST, SECOND)
    assert list(sums.seconds) == ["comparing", *PARTS]
    assert (sums.seconds["training"], sums.seconds["judging"], sums.seconds["saving"]) == (9, 4, 0)
    assert sums.total == 5.0 + 9.0 + 1.0 + 2.0 + 4.0
    assert sums.tokens_per_second == pytest.approx(270 / 9)
    assert sums.padding == pytest.approx(0.1)
    assert sums.waiting == pytest.approx(1 / 12)


def test_the_share_of_the_peak_is_of_the_rungs_whose_device_has_one() -> None:
    assert added(FIRST, SECOND).of_peak == 0.5
    assert added(FIRST).of_peak is None


def test_rungs_of_older_versions_are_counted_and_add_nothing() -> None:
    sums = added({}, FIRST, {})
    assert (sums.rungs, sums.without) == (1, 2)
    assert sums.seconds == added(FIRST).seconds


def test_a_study_without_times_has_no_speed() -> None:
    sums = times([], 0.0)
    speeds = (sums.tokens_per_second, sums.padding, sums.of_peak, sums.waiting)
    assert speeds == (None, None, None, None)
    assert set(sums.to_json()["training"].values()) == {None}


def test_times_stay_with_the_study_that_spent_them() -> None:
    """A study that extends another takes over its scores, but not what they took."""
    details = {"stderr": 0.1, "train_seconds": 3.0, "time": FIRST}
    free = growing._without_costs({**details, "tasks": {"gqa": details}})
    assert "time" not in free
    assert "time" not in free["tasks"]["gqa"]
    assert free["train_seconds"] == 3.0
