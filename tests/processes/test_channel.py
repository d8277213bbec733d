"""Channels: messages arrive in order, failures do not end the loop, `Stop` does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from mordal_optuna.errors import DataError
from mordal_optuna.processes.channel import Channel
from mordal_optuna.processes.group import Processes
from tests.processes.team import WORLD, Team, outcomes


@dataclass(frozen=True)
class Add:
    """A message with a number."""

    number: int


def test_messages_are_performed_in_order_until_rank_0_stops() -> None:
    def work(team: Team) -> list[int]:
        channel, numbers = Channel[Add](team), []
        if not team.is_main:
            assert channel.follow(lambda message: numbers.append(message.number)) is None
            return numbers
        for number in (1, 2, 3):
            channel.run(Add(number), lambda number=number: numbers.append(number))
        channel.stop()
        return numbers

    assert outcomes([work] * WORLD) == [[1, 2, 3]] * WORLD


@pytest.mark.parametrize("failing", range(WORLD))
@pytest.mark.parametrize("error", [DataError("a.png", "is broken"), KeyError("other")])
def test_a_failure_does_not_end_the_loop_and_is_returned(error: Exception, failing: int) -> None:
    """Rank 0 has raised it as well, and may send the next message nevertheless."""

    def work(team: Team) -> Any:
        channel, performed = Channel[Add](team), []

        def perform(message: Add) -> None:
            performed.append(message.number)
            if message.number == 1 and team.rank == failing:
                raise error

        if team.is_main:
            first, second = Add(1), Add(2)
            seen = pytest.raises(Exception, channel.run, first, lambda: perform(first)).value  # noqa: B017, PT011
            channel.run(second, lambda: perform(second))
            channel.stop()
            return performed, seen
        return performed, channel.follow(perform)

    for rank, (performed, seen) in enumerate(outcomes([work] * WORLD)):
        assert performed == [1, 2]
        assert (seen is error) if rank == failing else (str(error) in str(seen))


def test_a_failure_around_the_loop_and_the_reason_of_rank_0_end_it() -> None:
    """The followers raise what rank 0 raises, at the same place."""

    def around(team: Team) -> None:
        channel = Channel[Add](team)
        if not team.is_main:
            channel.follow(lambda _: None)
            return
        try:
            channel.run(Add(1), lambda: None)
            raise DataError("a.png", "is broken")
        finally:
            channel.stop()

    def reason(team: Team) -> None:
        channel = Channel[Add](team)
        if team.is_main:
            error = DataError("a.png", "is broken")
            channel.stop(error)
            raise error
        channel.follow(lambda _: None)

    for work in (lambda team: team.run_on_all(lambda: around(team)), reason):
        assert [str(e) for e in outcomes([work] * WORLD)] == ["data 'a.png': is broken"] * WORLD


def test_a_single_process_sends_to_nobody() -> None:
    channel = Channel[Add](Processes())
    channel.send(Add(1))
    channel.stop()
