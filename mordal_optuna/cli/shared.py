"""What the commands share: option types, the console, quiet libraries, the end by Ctrl-C."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mordal_optuna.cli.finishing import run_on_finish

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optuna import Study
    from rich.console import Console

    from mordal_optuna.config import StudySettings
    from mordal_optuna.processes.stopping import StopRequest
    from mordal_optuna.study.result import StudyResult

# Columns of the tables if standard output is not a terminal.
LOG_WIDTH = 100

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


def open_console(log_width: int = LOG_WIDTH) -> Console:
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


def dashboard_command(study_file: Path, method: str | None, name: str | None) -> str:
    """The shell command that opens the dashboard on the study of a command.

    In a checkout `uv run` installs what it needs. Where the package is installed, `mordal` does
    not, and names what is missing.

    Args:
        study_file: study file of the command.
        method: its option --method.
        name: its option --as.
    """
    here = Path.cwd()
    resolved = study_file.resolve()
    shown = resolved.relative_to(here) if resolved.is_relative_to(here) else study_file
    options = {"--method": method, "--as": name}
    words = [str(shown), *(word for k, v in options.items() if v for word in (k, v))]
    from mordal_optuna.config.shipped import in_checkout

    mordal = "uv run --extra dashboard mordal" if in_checkout() else "mordal"
    return f"{mordal} dashboard {shlex.join(words)}"


def write_and_publish(
    settings: StudySettings, study: Study, result: StudyResult, command: str
) -> Path:
    """Write the report as HTML, Markdown and JSON; publish the result in the dashboard.

    Args:
        settings: settings of the study.
        study: the study.
        result: its result.
        command: shell command that opens the dashboard, which the report shows.

    Returns:
        The HTML report; the others are beside it.
    """
    from mordal_optuna.reporting.dashboard import artifact_folder
    from mordal_optuna.reporting.publishing import publish_in_turn
    from mordal_optuna.reporting.report import write_reports

    notice, unfinished = report_so_far(settings, result)
    report = write_reports(
        result,
        settings.workdir,
        dashboard_command=command,
        notice=notice,
        unfinished=unfinished,
    )[0]
    folder = artifact_folder(settings.workdir)
    url = settings.storage_url()
    publish_in_turn(url, study, result, report=report, folder=folder)
    return report


def report_so_far(
    settings: StudySettings, result: StudyResult
) -> tuple[str | None, dict[str, Any] | None]:
    """What the report of a study that is not finished says first, as a sentence and as JSON.

    Args:
        settings: settings of the study.
        result: its result so far.

    Returns:
        Both; None and None for a study that is finished.
    """
    from datetime import datetime

    if result.stopped_because is not None and (result.further_scores or not settings.also_score):
        return None, None
    from mordal_optuna.reporting.status import notice, unfinished_json
    from mordal_optuna.study.status import read_status

    found, now = read_status(settings), datetime.now().astimezone()
    return notice(found, now), unfinished_json(found, now)


def present(settings: StudySettings, result: StudyResult, command: str, *, as_json: bool) -> None:
    """Print the result, write the report, publish both in the dashboard, and run `on_finish`.

    Args:
        settings: the study file's settings.
        result: result of the study.
        command: shell command that opens the dashboard.
        as_json: True to print JSON on standard output.
    """
    import json

    from mordal_optuna.driver import open_study
    from mordal_optuna.reporting.plain import to_json
    from mordal_optuna.reporting.tables import print_result

    report = write_and_publish(settings, open_study(settings), result, command)
    if as_json:
        typer.echo(json.dumps(to_json(result)))
    else:
        console = open_console()
        print_result(result, console)
        console.print(f"report     {report}", soft_wrap=True, highlight=False)
        console.print(f"dashboard  {command}", soft_wrap=True, highlight=False)
    sys.stdout.flush()  # before what the command prints
    reason = result.stopped_because
    if reason is not None:
        run_on_finish(settings, "ended", reason, result=result, report=report)
