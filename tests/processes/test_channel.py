"""Channels: messages arrive in order, failures do not end the loop, `Stop` does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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
            channel.send(Add(number))
        channel.stop()
        return [1, 2, 3]

    assert outcomes([work] * WORLD) == [[1, 2, 3]] * WORLD


def test_a_failure_does_not_end_the_loop_and_is_returned() -> None:
    """Rank 0 has raised it as well, and may send the next message nevertheless."""

    def work(team: Team) -> Any:
        channel, performed = Channel[Add](team), []

        def perform(message: Add) -> None:
            performed.append(message.number)
            if message.number == 1:
                raise DataError("a.png", "is broken")

        if team.is_main:
            channel.send(Add(1))
            channel.send(Add(2))
            channel.stop()
            return [1, 2], "data 'a.png': is broken"
        return performed, str(channel.follow(perform))

    assert outcomes([work] * WORLD) == [([1, 2], "data 'a.png': is broken")] * WORLD


def test_a_single_process_sends_to_nobody() -> None:
    channel = Channel[Add](Processes())
    channel.send(Add(1))
    channel.stop()
