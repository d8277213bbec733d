"""Progress updates of long computations: stages, notes, warnings and progress bars."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    Advance = Callable[[int], None]


class Progress(Protocol):
    """Receives progress updates; `reporting.console` shows them in the terminal."""

    def stage(self, title: str) -> None:
        """Announce the next stage of the run.

        Args:
            title: name of the stage.
        """
        ...

    def note(self, text: str) -> None:
        """Report one fact, such as a choice or a score.

        Args:
            text: one line.
        """
        ...

    def warn(self, text: str) -> None:
        """Report something that makes the result doubtful; must not be overlooked.

        Args:
            text: one line.
        """
        ...

    def track(self, title: str, total: int) -> AbstractContextManager[Advance]:
        """Open a progress bar; the yielded function adds units that were just done.

        Args:
            title: label of the bar.
            total: number of units.
        """
        ...


class Silent:
    """Ignores all progress updates."""

    def stage(self, title: str) -> None:
        """Show nothing."""

    def note(self, text: str) -> None:
        """Show nothing."""

    def warn(self, text: str) -> None:
        """Show nothing."""

    @contextmanager
    def track(self, title: str, total: int) -> Iterator[Advance]:  # noqa: ARG002
        """Show nothing; the yielded function ignores its argument."""

        def advance(done: int) -> None:  # noqa: ARG001
            return

        yield advance
