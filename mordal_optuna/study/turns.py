"""Turns: parts of a study that one of its workers does at a time, while the others wait.

A turn is a row of `mordal_runs` under the study's name and the name of the part. A worker that
dies in its turn loses it at once on the same machine, and after a minute elsewhere.
"""

from __future__ import annotations

import hashlib
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mordal_optuna.study.ownership import open_runs, owned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mordal_optuna.study.ownership import LeaseRows

# Seconds between two looks at what other workers do; they grow by half each time.
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
# Of the longest name of a row; a longer one ends with the digest of the whole.
_LENGTH, _DIGITS = 255, 32


class Pauses:
    """Pauses between two looks, which grow until something has changed."""

    def __init__(self, sleep: Callable[[float], None] = time.sleep) -> None:
        """Begin with the shortest pause.

        Args:
            sleep: function that waits for a number of seconds.
        """
        self._sleep = sleep
        self._next = FIRST_PAUSE

    def wait(self) -> None:
        """Wait; longer than the last time."""
        self._sleep(self._next)
        self._next = min(1.5 * self._next, LONGEST_PAUSE)

    def reset(self) -> None:
        """Begin again with the shortest pause."""
        self._next = FIRST_PAUSE


class Turns:
    """The turns of one study."""

    def __init__(
        self,
        address: str,
        study: str,
        *,
        rows: LeaseRows | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Open the turns of a study.

        Args:
            address: SQLAlchemy address of the study's database.
            study: name of the study.
            rows: rows that `open_runs` opened; None opens them.
            sleep: function that waits for a number of seconds.

        Raises:
            StoreError: if the database cannot be used.
        """
        self._rows = rows or open_runs(address)
        self._study = study
        self._sleep = sleep

    @contextmanager
    def try_for(self, part: str) -> Iterator[bool]:
        """Take a turn for the length of the context, unless another worker has it.

        Args:
            part: name of the part.

        Yields:
            Whether this worker has the turn.

        Raises:
            StoreError: if the database cannot be used.
        """
        with owned(self._rows, part_name(self._study, part)) as lease:
            yield lease is not None

    @contextmanager
    def wait_for(self, part: str) -> Iterator[None]:
        """Wait for a turn, and have it for the length of the context.

        Args:
            part: name of the part.

        Raises:
            StoreError: if the database cannot be used.
        """
        pauses = Pauses(self._sleep)
        while True:
            with self.try_for(part) as mine:
                if mine:
                    yield
                    return
            pauses.wait()

    def pauses(self) -> Pauses:
        """Pauses of this worker while others have turns."""
        return Pauses(self._sleep)


def part_name(study: str, part: str) -> str:
    """Name of the row of a part; of at most 255 characters, and different for each part.

    Args:
        study: name of the study.
        part: name of the part.
    """
    name = f"{study} [{part}]"
    if len(name) <= _LENGTH:
        return name
    return name[: _LENGTH - _DIGITS] + hashlib.sha256(name.encode()).hexdigest()[:_DIGITS]
