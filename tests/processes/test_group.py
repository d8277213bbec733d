"""Processes: a single one, and three ranks that are threads of this process."""

from __future__ import annotations

import errno
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import torch

from mordal_optuna.errors import (
    ConfigError,
    DataError,
    InfrastructureError,
    ModelError,
    ProcessEndedError,
    ProcessError,
)
from mordal_optuna.processes.group import (
    IDLE_TIMEOUT,
    LEAVE_TIMEOUT,
    WORK_TIMEOUT,
    Processes,
)
from mordal_optuna.processes.outages import described, is_outage
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
    alone.check()
    with pytest.raises(DataError, match="is broken"):
        alone.run_on_all(fails("a.png"))


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


WAYS: dict[str, Callable[[Team], Any]] = {
    "broadcast": lambda team: team.broadcast(1),
    "gather": lambda team: team.gather(1),
    "check": lambda team: team.check(),
    "end": lambda _: None,
    "nested": lambda team: team.run_on_all(lambda: team.run_on_all(lambda: team.gather(1))),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "error",
    [KeyError("x"), torch.OutOfMemoryError("full"), FileNotFoundError("f"), MemoryError()],
)
def test_an_error_of_any_class_reaches_the_others_wherever_they_wait(
    way: str, error: Exception
) -> None:
    """And all of them leave the same work: the next one has all ranks again."""

    def work(team: Team) -> list[Any]:
        def part() -> None:
            if team.rank == 1:
                raise error
            WAYS[way](team)

        seen = outcome(lambda: team.run_on_all(part))
        return [seen, team.run_on_all(lambda: team.gather(team.rank))]

    for rank, (seen, following) in enumerate(outcomes([work] * WORLD)):
        assert following == [0, 1, 2]
        if rank == 1:
            assert seen is error
        else:
            assert isinstance(seen, ProcessError)
            assert seen.rank == 1
            assert described(error) in str(seen)


def outcome(work: Callable[[], Any]) -> Any:
    """What work returns, or the error that it raises."""
    try:
        return work()
    except Exception as error:  # noqa: BLE001 - what is looked at
        return error


def test_of_two_failures_the_outermost_work_is_left_by_all() -> None:
    def work(team: Team) -> list[Any]:
        def inner() -> None:
            if team.rank == 2:
                raise DataError("inner.png", "is broken")
            team.gather(1)

        def outer() -> None:
            if team.rank == 0:
                raise DataError("outer.png", "is broken")
            for _ in range(3):
                outcome(lambda: team.run_on_all(inner))  # goes on as if nothing had been raised

        return [outcome(lambda: team.run_on_all(outer)), team.gather(team.rank)]

    for seen, following in outcomes([work] * WORLD):
        assert str(seen) == "data 'outer.png': is broken"
        assert following == [0, 1, 2]


def test_an_error_that_cannot_be_sent_is_named() -> None:
    """A rank that fails to send its error would leave the others waiting."""
    odd = DataError("a.png", "is broken")
    odd.source = lambda: None  # type: ignore[assignment]

    def broken() -> None:
        raise odd

    raised = on_all([lambda: 1, broken, lambda: 3])
    assert "DataError: data 'a.png': is broken" in str(raised[0])


def test_ranks_that_come_to_different_points_fail_instead_of_mixing_their_values() -> None:
    def work(team: Team) -> Any:
        return team.run_on_all(lambda: team.gather(1) if team.rank else team.broadcast(2))

    for seen in outcomes([work] * WORLD):
        assert isinstance(seen, ProcessError)
        assert "another point" in str(seen)


def test_an_interrupted_rank_tells_the_others_and_ends_the_launch() -> None:
    """It is no failure of the work, and nothing is exchanged afterwards."""

    def work(team: Team) -> Any:
        def part() -> None:
            if team.rank == 1:
                raise KeyboardInterrupt
            team.gather(1)

        seen = outcome(lambda: team.run_on_all(lambda: team.run_on_all(part)))
        assert not team.can_exchange
        assert outcome(lambda: team.gather(1)) is seen
        return seen

    raised = outcomes([work] * WORLD)
    assert isinstance(raised[1], KeyboardInterrupt)
    for error in (raised[0], raised[2]):
        assert isinstance(error, ProcessEndedError)
        assert str(error) == (
            "process 1 of this launch has ended: it was interrupted (KeyboardInterrupt)"
        )


def test_a_rank_that_cannot_be_reached_ends_the_launch_and_is_no_outage() -> None:
    """An outage would be waited for; a process that has gone does not come back."""

    def work(team: Team) -> Any:
        if team.rank == 2:
            team.barrier.abort()  # as a connection that is closed
            return None
        return outcome(lambda: team.run_on_all(lambda: team.gather(1)))

    for error in outcomes([work] * WORLD)[:2]:
        assert isinstance(error, ProcessEndedError)
        assert error.rank is None
        assert not is_outage(error)


def test_only_what_waits_for_other_workers_waits_without_a_bound() -> None:
    """A rank waits for days between two pieces of work alone."""
    assert timedelta(minutes=1) > LEAVE_TIMEOUT
    assert WORK_TIMEOUT <= timedelta(days=1) < IDLE_TIMEOUT


def test_several_processes_without_torch_distributed_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="2 processes were started, but"):
        Processes.join()
