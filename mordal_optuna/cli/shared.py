"""What the commands share: option types, the console, quiet libraries, the end by Ctrl-C."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from mordal_optuna.processes.stopping import StopRequest

StudyFile = Annotated[Path, typer.Argument(help="A study file (YAML).")]
Method = Annotated[
    str | None,
    typer.Option(help="Search by another method, such as grid, as a study of its own."),
]
As = Annotated[
    str | None,
    typer.Option(
        "--as",
        metavar="NAME",
        help="Give the study another name. Checkpoints and scores of earlier ones are reused.",
    ),
]


def open_console(log_width: int) -> Console:
    """A console on standard output.

    Args:
        log_width: number of columns if standard output is not a terminal.
    """
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=log_width)


def quiet_libraries() -> None:
    """Silence the libraries' progress bars and notices; variables that the user has set win."""
    import optuna

    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    optuna.logging.set_verbosity(optuna.logging.ERROR)


@contextmanager
def interruptible() -> Iterator[None]:
    """On Ctrl-C, print how to continue and exit with status 130."""
    try:
        yield
    except KeyboardInterrupt:
        # A launcher may pass on the same Ctrl-C a second time; it must not interrupt the exit.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        typer.echo(
            "\nmordal: interrupted; finished work is kept; run the same command again to continue",
            err=True,
        )
        raise typer.Exit(130) from None


@contextmanager
def preemptible() -> Iterator[StopRequest]:
    """On SIGTERM, leave where nothing is lost, print how to continue and exit with status 75.

    Yields:
        Whether this process was asked to end.
    """
    from mordal_optuna.errors import Preempted
    from mordal_optuna.processes.stopping import StopRequest

    stop = StopRequest()
    try:
        with stop.listening():
            yield stop
    except Preempted:
        typer.echo(
            "mordal: asked to end (SIGTERM); finished work is kept; run the same command again to "
            "continue",
            err=True,
        )
        raise
