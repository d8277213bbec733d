"""Processes: a single one, and three ranks that are threads of this process."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import pytest

from mordal_optuna.errors import (
    ConfigError,
    DataError,
    InfrastructureError,
    ModelError,
    ProcessError,
)
from mordal_optuna.processes.group import Processes
from tests.processes.team import WORLD, Team, outcomes

if TYPE_CHECKING:
    from collections.abc import Callable


def on_all(works: list[Callable[[], Any]]) -> list[Any]:
    """What `run_on_all` returns or raises on each rank, with a function per rank."""
    return outcomes([lambda team, work=work: team.run_on_all(work) for work in works])


def test_a_single_process_is_rank_0_of_1_and_exchanges_nothing() -> None:
    alone = Processes()
    assert (alone.rank, alone.world_size, alone.is_main) == (0, 1, True)
    assert alone.broadcast(3) == 3
    assert alone.gather("a") == ["a"]
    assert alone.run_on_all(lambda: 5) == 5
    assert alone.run_on_main(lambda: 7) == 7
    with pytest.raises(DataError, match="is broken"):
        alone.raise_on_all(DataError("a.png", "is broken"))


def test_broadcast_and_send_give_the_value_of_rank_0_alone() -> None:
    def work(team: Team) -> list[Any]:
        same_point = team.broadcast(f"value of {team.rank}")
        if not team.is_main:
            return [same_point, team.receive()]
        team.send("message")
        return [same_point, "message"]

    assert outcomes([work] * WORLD) == [["value of 0", "message"]] * WORLD


def test_each_rank_gets_its_own_result_if_none_fails() -> None:
    assert on_all([lambda n=n: n for n in range(WORLD)]) == [0, 1, 2]


def test_work_of_rank_0_runs_there_alone_and_all_ranks_get_its_result_or_error() -> None:
    ran: list[int] = []

    def work(team: Team) -> str:
        def once() -> str:
            ran.append(team.rank)
            return "result"

        return team.run_on_main(once)

    assert outcomes([work] * WORLD) == ["result"] * WORLD
    assert ran == [0]

    def failing(team: Team) -> None:
        team.run_on_main(fails("a.png"))

    assert [str(e) for e in outcomes([failing] * WORLD)] == ["data 'a.png': is broken"] * WORLD


def fails(name: str) -> Callable[[], None]:
    def work() -> None:
        raise DataError(name, "is broken")

    return work


def test_the_error_of_the_lowest_rank_is_raised_on_all() -> None:
    raised = on_all([lambda: 1, fails("b.png"), fails("c.png")])
    assert [str(error) for error in raised] == ["data 'b.png': is broken"] * 3


def test_an_outage_on_one_rank_is_an_outage_on_all() -> None:
    """Also if it is the cause of another error, since causes are not pickled with errors."""

    def bare() -> None:
        raise OSError(errno.EIO, "input/output error")

    def caused() -> None:
        try:
            bare()
        except OSError as error:
            raise ModelError("clip", "cannot be loaded") from error

    for work in (bare, caused):
        raised = on_all([lambda: 1, work, lambda: 3])
        assert [type(error) for error in raised] == [InfrastructureError] * WORLD
        assert len({str(error) for error in raised}) == 1


def test_a_programming_error_keeps_its_traceback_and_is_named_on_other_ranks() -> None:
    raised = on_all([lambda: 1, lambda: 1 // 0, lambda: 3])
    assert isinstance(raised[1], ZeroDivisionError)
    for error in (raised[0], raised[2]):
        assert isinstance(error, ProcessError)
        assert error.rank == 1
        assert "ZeroDivisionError" in str(error)


def test_several_processes_without_torch_distributed_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="2 processes were started, but"):
        Processes.join()
