"""Progress: plain lines in a file, and a terminal that is always restored."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from mordal_optuna.reporting.console import ConsoleProgress


def test_progress_in_a_file_is_plain_lines() -> None:
    stream = io.StringIO()
    with ConsoleProgress(Console(file=stream, width=80)) as progress:
        progress.stage("first")
        with progress.track("short", 10) as advance, progress.track("inner", 5):
            advance(10)
        progress.note("a fact [with brackets]")
    lines = stream.getvalue().splitlines()
    assert [line[7:] for line in lines] == ["1. first", "   a fact [with brackets]"]
    assert "\x1b" not in stream.getvalue()


def test_a_long_task_leaves_a_line_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mordal_optuna.reporting.console._WORTH_A_LINE_SECONDS", 0.0)
    stream = io.StringIO()
    with (
        ConsoleProgress(Console(file=stream)) as progress,
        progress.track("align a + b", 10) as advance,
    ):
        advance(10)
    assert "align a + b: 10 done in" in stream.getvalue()


def test_the_terminal_is_restored_after_an_error() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=80)
    with (
        pytest.raises(KeyboardInterrupt),
        ConsoleProgress(console) as progress,
        progress.track("t", 2),
    ):
        raise KeyboardInterrupt
    assert stream.getvalue().rstrip().endswith("\x1b[?25h") or "\x1b[?25h" in stream.getvalue()
