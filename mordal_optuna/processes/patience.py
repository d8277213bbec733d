"""Retries after outages: exponential backoff, for a bounded number of tries."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from mordal_optuna.errors import LastingOutageError
from mordal_optuna.processes.outages import is_outage, outage

if TYPE_CHECKING:
    from collections.abc import Callable

    from mordal_optuna.errors import InfrastructureError
    from mordal_optuna.progress import Progress

T = TypeVar("T")

# Seconds.
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 300.0
# In a row. With the pauses between them they take about half an hour.
TRIES = 14


class Patience:
    """Counts outages in a row and pauses after each one, twice as long every time."""

    def __init__(self, sleep: Callable[[float], None], progress: Progress) -> None:
        """Start with no outage.

        Args:
            sleep: function that waits for a number of seconds.
            progress: receives a note about the first of several outages in a row.
        """
        self._sleep = sleep
        self._progress = progress
        self._outages = 0

    def reset(self) -> None:
        """Set the count to 0, after a success."""
        self._outages = 0

    def wait(self, error: InfrastructureError) -> None:
        """Count an outage, and pause before the next try; only the first of a row is noted.

        Args:
            error: the outage.

        Raises:
            LastingOutageError: if this was the last of the allowed tries.
        """
        self._outages += 1
        if self._outages == TRIES:
            raise LastingOutageError(error.reason, self._outages) from None
        pause = min(FIRST_PAUSE * 2 ** (self._outages - 1), LONGEST_PAUSE)
        if self._outages == 1:
            self._progress.note(f"{error}; trying again with growing pauses, for half an hour")
        self._sleep(pause)

    def through(self, work: Callable[[], T]) -> T:
        """Do work, and repeat it after each outage.

        Args:
            work: function that may be repeated, whatever it did before it failed.

        Returns:
            What the work returned.

        Raises:
            LastingOutageError: if the outage outlasts all tries.
        """
        while True:
            try:
                return work()
            except Exception as error:  # any: its class does not say if it is an outage
                if not is_outage(error):
                    raise
                reported = outage(error)
            self.wait(reported)
