"""Workers of a study: who has begun it, and that nobody runs it alone meanwhile."""

from __future__ import annotations

import time

import pytest

from mordal_optuna.errors import BusyError
from mordal_optuna.study.membership import Alone, joined
from mordal_optuna.study.ownership import alone_on, open_runs


def test_workers_and_a_process_alone_exclude_each_other(database: str) -> None:
    """Also under names that begin alike, and with a name longer than a row's."""
    for study in ("s", "s" * 300):
        with joined(database, study), joined(database, study):
            if len(study) < 255:
                with pytest.raises(BusyError, match="another process works on study 's'"):
                    alone_on(database, study).__enter__()
            with alone_on(database, "s2"):
                pass
    with alone_on(database, "s"), pytest.raises(BusyError, match="on study 's'"):
        joined(database, "s").__enter__()
    with alone_on(database, "s"):
        pass
    assert open_runs(database).rows() == []


def test_a_study_has_begun_once_another_living_worker_has(database: str) -> None:
    """Not by a worker that is still opening, and not by one that has left."""
    with joined(database, "s") as first:
        with joined(database, "s") as second:
            assert not first.has_begun
            second.begin()
            assert first.has_begun
            assert not second.has_begun
            first.begin()
            assert second.has_begun
        assert not first.has_begun


def test_a_process_alone_takes_no_turns() -> None:
    alone = Alone()
    with alone.turn("begin"):
        alone.begin()
        alone.does("waiting")
    assert not alone.has_begun
    assert alone.turns is None


def test_what_a_worker_does_is_told(database: str) -> None:
    told: list[str] = []
    with joined(database, "s", does=told.append) as member:
        member.does("waiting")
    assert told == ["waiting"]


def test_what_a_dead_worker_has_left_is_removed_by_the_next_that_leaves(database: str) -> None:
    """Rows of its membership and of its turns; not those of another study."""
    dead = open_runs(database, lease_seconds=0.01)
    for name in ("s [worker 1]", "s [compare clip]", "t [worker 1]"):
        assert dead.acquire(study=name)
    time.sleep(0.1)
    with joined(database, "s"):
        pass
    assert [row.study for row in dead.rows()] == ["t [worker 1]"]
