"""Typed messages from rank 0 to the other ranks, and the loop in which those perform them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from mordal_optuna.errors import MordalError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mordal_optuna.processes.group import Processes

M = TypeVar("M")


@dataclass(frozen=True)
class Stop:
    """The last message of a channel: the other ranks leave the loop."""


class Channel(Generic[M]):
    """Messages of one type (a frozen dataclass, or a union of them) from rank 0 to all others."""

    def __init__(self, processes: Processes) -> None:
        """Open a channel.

        Args:
            processes: all ranks; with a single one, nothing is sent.
        """
        self._processes = processes

    def send(self, message: M) -> None:
        """Rank 0: send a message to the other ranks.

        Args:
            message: frozen dataclass, picklable.
        """
        self._processes.send(message)

    def stop(self) -> None:
        """Rank 0: let the other ranks leave `follow`."""
        self._processes.send(Stop())

    def receive(self) -> M | Stop:
        """Other ranks: wait for the next message."""
        message: M | Stop = self._processes.receive()
        return message

    def follow(self, perform: Callable[[M], object]) -> MordalError | None:
        """Other ranks: perform messages until rank 0 sends `Stop`.

        A failure does not end the loop: `perform` raises it on all ranks, and rank 0 decides what
        to do about it.

        Args:
            perform: does this rank's part of a message.

        Returns:
            The last failure; None if there was none.
        """
        failure: MordalError | None = None
        while True:
            message = self.receive()
            if isinstance(message, Stop):
                return failure
            try:
                perform(message)
            except MordalError as error:
                failure = error
