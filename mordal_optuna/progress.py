"""What long computations tell whoever is watching: stages, amounts done, time left."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    Advance = Callable[[int], None]


class Progress(Protocol):
    """A listener; `reporting.console` shows one in the terminal."""

    def stage(self, title: str) -> None:
        """Announce the next stage of the run."""
        ...

    def note(self, text: str) -> None:
        """Tell one fact, such as a choice made or a score measured."""
        ...

    def warn(self, text: str) -> None:
        """Tell what makes the result doubtful, so that it is not overlooked."""
        ...

    def track(self, title: str, total: int) -> AbstractContextManager[Advance]:
        """Open a bar of `total` units; the function it yields adds the units just done."""
        ...


class Silent:
    """A listener that shows nothing."""

    def stage(self, title: str) -> None:
        """Show nothing."""

    def note(self, text: str) -> None:
        """Show nothing."""

    def warn(self, text: str) -> None:
        """Show nothing."""

    @contextmanager
    def track(self, title: str, total: int) -> Iterator[Advance]:  # noqa: ARG002
        """Show nothing; the yielded function accepts amounts and drops them."""

        def advance(done: int) -> None:  # noqa: ARG001
            return

        yield advance
