"""Progress in the terminal: bars on a terminal, plain lines if output goes to a file."""

from __future__ import annotations

from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

    from mordal_optuna.progress import Advance


class _Speed(ProgressColumn):
    """Units per second over the last seconds."""

    def render(self, task: Task) -> Text:
        """The speed; empty until it is known."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.1f}/s")


# If output goes to a file, shorter tasks are not reported.
_WORTH_A_LINE_SECONDS = 2.0


class ConsoleProgress:
    """Shows stages, notes and bars; a context manager, so that the terminal is always restored."""

    def __init__(self, console: Console | None = None) -> None:
        """Set up the display.

        Args:
            console: console to print to; standard output by default.
        """
        self._console = console or Console(highlight=False)
        self._stage = 0
        self._start = perf_counter()
        self._bars = Progress(
            TextColumn("  {task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            _Speed(),
            TextColumn("elapsed"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )

    def __enter__(self) -> Self:
        """Start drawing, on a terminal."""
        if self._console.is_terminal:
            self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop drawing, also after an error."""
        if self._console.is_terminal:
            self._bars.stop()

    def stage(self, title: str) -> None:
        """Print the title of the next stage with the time since the start."""
        self._stage += 1
        self._print(f"[{self._since()}] {self._stage}. {title}", style="bold")

    def note(self, text: str) -> None:
        """Print a note."""
        self._print(f"[{self._since()}]    {text}")

    def warn(self, text: str) -> None:
        """Print a warning."""
        self._print(f"[{self._since()}]    warning: {text}", style="bold yellow")

    @contextmanager
    def track(self, title: str, total: int) -> Iterator[Advance]:
        """Draw a bar; if output goes to a file, print a line once it is full."""
        start = perf_counter()
        bar = self._bars.add_task(title, total=total)

        def advance(amount: int) -> None:
            self._bars.advance(bar, amount)

        try:
            yield advance
        finally:
            self._bars.remove_task(bar)
        seconds = perf_counter() - start
        if not self._console.is_terminal and seconds >= _WORTH_A_LINE_SECONDS:
            self.note(f"{title}: {total} done in {seconds:.1f} s, {total / seconds:,.1f}/s")

    def _since(self) -> str:
        minutes, seconds = divmod(int(perf_counter() - self._start), 60)
        return f"{minutes}:{seconds:02d}"

    def _print(self, text: str, style: str | None = None) -> None:
        self._console.print(text, style=style, markup=False, soft_wrap=True)
