"""Typed messages from rank 0 to the other ranks, and the loop in which those perform them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from mordal_optuna.errors import MordalError
    from mordal_optuna.processes.group import Processes

M = TypeVar("M")
T = TypeVar("T")


@dataclass(frozen=True)
class Stop:
    """The last message of a channel: the other ranks leave the loop.

    Attributes:
        error: why rank 0 stops; None if all is done.
    """

    error: MordalError | None = None


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

    def run(self, message: M, work: Callable[[], T]) -> T:
        """Rank 0: send a message, and do rank 0's part of what it asks for.

        Args:
            message: frozen dataclass, picklable.
            work: does rank 0's part; see `Processes.run_on_all`.

        Returns:
            What the work returned.

        Raises:
            MordalError: the error of a rank that failed, as `Processes.run_on_all` raises it.
        """
        self.send(message)
        return self._processes.run_on_all(work)

    def stop(self, error: BaseException | None = None) -> None:
        """Rank 0: let the other ranks leave `follow`.

        Nothing is sent where they leave it anyway: while an error is being raised on all ranks,
        or once a process has ended.

        Args:
            error: why rank 0 stops, which `follow` raises; None if all is done.
        """
        if self._processes.can_exchange:
            self._processes.send(Stop(self._processes.told(error) if error else None))

    def receive(self) -> M | Stop:
        """Other ranks: wait for the next message."""
        message: M | Stop = self._processes.receive()
        return message

    def follow(self, perform: Callable[[M], object]) -> Exception | None:
        """Other ranks: perform messages until rank 0 sends `Stop`.

        A failure of `perform`, by any error, is raised on all ranks. It does not end the loop:
        rank 0 decides what to do about it. Only a failure around the loop, and the end of a
        process, end it.

        Args:
            perform: does this rank's part of a message, as `run` does rank 0's.

        Returns:
            The last failure; None if there was none.

        Raises:
            MordalError: rank 0's reason for stopping, or the failure around the loop.
        """
        failure: Exception | None = None
        while True:
            message = self.receive()
            if isinstance(message, Stop):
                if message.error:
                    raise message.error
                return failure
            try:
                self._processes.run_on_all(lambda: perform(message))  # noqa: B023 - called here
            except Exception as error:  # any: all ranks have raised it, and rank 0 decides
                if not self._processes.can_exchange:
                    raise
                failure = error
