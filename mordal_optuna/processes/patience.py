"""Waiting out outages: pauses that grow, for a bounded number of tries."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from mordal_optuna.errors import LastingOutageError
from mordal_optuna.processes.outages import is_outage, outage

if TYPE_CHECKING:
    from collections.abc import Callable

    from mordal_optuna.errors import InfrastructureError
    from mordal_optuna.progress import Progress

T = TypeVar("T")

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 300.0
# In a row: with the pauses between them about half an hour.
TRIES = 14


class Patience:
    """Counts outages in a row and waits after each."""

    def __init__(self, sleep: Callable[[float], None], progress: Progress) -> None:
        """Start without any.

        Args:
            sleep: waits, for a number of seconds.
            progress: is told what is waited for, and how long.
        """
        self._sleep = sleep
        self._progress = progress
        self._outages = 0

    def reset(self) -> None:
        """Forget the outages so far: it works again."""
        self._outages = 0

    def wait(self, error: InfrastructureError) -> None:
        """Wait before the next try.

        Raises:
            LastingOutageError: if there is to be none.
        """
        self._outages += 1
        if self._outages == TRIES:
            raise LastingOutageError(error.reason, self._outages) from None
        pause = min(FIRST_PAUSE * 2 ** (self._outages - 1), LONGEST_PAUSE)
        self._progress.note(f"{error}; trying again in {pause:.0f} s")
        self._sleep(pause)

    def through(self, work: Callable[[], T]) -> T:
        """Do a piece of work; do it again after each outage.

        Args:
            work: can be done again, whatever it has done before it failed.

        Raises:
            LastingOutageError: if it fails so as long as it is tried.
        """
        while True:
            try:
                return work()
            except Exception as error:
                if not is_outage(error):
                    raise
                found = outage(error)
            self.wait(found)
