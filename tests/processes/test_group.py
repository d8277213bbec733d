"""Processes: one alone, and three that are threads of this one, over a stand-in for the group."""

from __future__ import annotations

import errno
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest

from mordal_optuna.errors import (
    ConfigError,
    DataError,
    InfrastructureError,
    ModelError,
    MordalError,
    ProcessError,
)
from mordal_optuna.processes.group import Processes

WORLD = 3


class Team(Processes):
    """Processes whose messages go through a list."""

    held: list[Any] = [None] * WORLD
    barrier = Barrier(WORLD, timeout=10)

    def __init__(self, rank: int) -> None:
        super().__init__()
        self._rank = rank

    @property
    def rank(self) -> int:
        """As given."""
        return self._rank

    @property
    def world_size(self) -> int:
        """Three."""
        return WORLD

    def gather(self, value: Any) -> list[Any]:
        """What all three have put in the list."""
        self.barrier.wait()
        self.held[self._rank] = value
        self.barrier.wait()
        return list(self.held)


def outcomes(works: list[Any]) -> list[Any]:
    """What each of three processes gets, or the error it raises."""

    def run(rank: int) -> Any:
        try:
            return Team(rank).run_on_all(works[rank])
        except (MordalError, ZeroDivisionError, OSError) as error:
            return error

    with ThreadPoolExecutor(WORLD) as pool:
        return list(pool.map(run, range(WORLD)))


def test_alone_everything_is_its_own() -> None:
    alone = Processes()
    assert (alone.rank, alone.world_size, alone.is_main) == (0, 1, True)
    assert alone.broadcast(3) == 3
    assert alone.gather("a") == ["a"]
    assert alone.run_on_all(lambda: 5) == 5
    with pytest.raises(DataError, match="is broken"):
        alone.raise_any(DataError("a.png", "is broken"))


def test_each_gets_its_own_result_where_none_fails() -> None:
    assert outcomes([lambda n=n: n for n in range(WORLD)]) == [0, 1, 2]


def test_the_first_error_is_raised_by_all() -> None:
    def fails(name: str) -> Any:
        def work() -> None:
            raise DataError(name, "is broken")

        return work

    found = outcomes([lambda: 1, fails("b.png"), fails("c.png")])
    assert [str(error) for error in found] == ["data 'b.png': is broken"] * 3


def test_an_outage_on_one_is_an_outage_on_all() -> None:
    """Bare, or as the cause of an error: causes do not travel between processes."""

    def bare() -> None:
        raise OSError(errno.EIO, "input/output error")

    def caused() -> None:
        try:
            bare()
        except OSError as error:
            raise ModelError("clip", "cannot be loaded") from error

    for work in (bare, caused):
        found = outcomes([lambda: 1, work, lambda: 3])
        assert [type(error) for error in found] == [InfrastructureError] * WORLD
        assert len({str(error) for error in found}) == 1


def test_a_fault_keeps_its_trace_and_is_named_elsewhere() -> None:
    found = outcomes([lambda: 1, lambda: 1 // 0, lambda: 3])
    assert isinstance(found[1], ZeroDivisionError)
    for error in (found[0], found[2]):
        assert isinstance(error, ProcessError)
        assert error.rank == 1
        assert "ZeroDivisionError" in str(error)


def test_a_launch_that_torch_knows_nothing_of_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="2 processes were started, but"):
        Processes.join()
