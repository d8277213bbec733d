"""`mordal quickstart`, `mordal run` and `mordal retry`: run a study, and clear its failures."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotations at run time
from typing import TYPE_CHECKING, Annotated

import typer

from mordal_optuna.cli.finishing import telling_failure
from mordal_optuna.cli.shared import (
    As,
    Method,
    StudyFile,
    dashboard_command,
    interruptible,
    open_console,
    preemptible,
    present,
    quiet_libraries,
)
from mordal_optuna.errors import ConfigError
from mordal_optuna.processes.launch import launched_rank

if TYPE_CHECKING:
    from mordal_optuna.processes.stopping import StopRequest
    from mordal_optuna.study.result import StudyResult


def quickstart(
    *,
    method: Method = None,
    name: As = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Train the whole grid as well; print both side by side."),
    ] = False,
) -> None:
    """Build a small pool on this machine, search it, print the ranking, write a report.

    The same as `mordal run` with the shipped study file quickstart.yaml. Everything is put under
    ./runs; a second call continues or finds everything done.
    """
    from mordal_optuna.config.shipped import shipped

    if check and method == "grid":
        raise ConfigError(["--check: got --method grid; a search is compared with the grid"])
    study_file = shipped("studies") / "quickstart.yaml"
    with interruptible(), preemptible() as stop:
        result = run_to_end(study_file, method, name, stop=stop)
        if check:
            grid = run_to_end(study_file, "grid", name and f"{name}-grid", stop=stop)
            _print_check(result, grid)


def run(
    study_file: StudyFile,
    *,
    method: Method = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as one JSON object, progress apart.")
    ] = False,
    name: As = None,
    grow_from: Annotated[
        str | None,
        typer.Option(
            metavar="STUDY",
            help="Take over the scores of an earlier study with fewer or more models; use --as.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Start so many workers on this machine, one for each accelerator in turn.",
        ),
    ] = None,
) -> None:
    """Run a study file to its end, or continue it.

    Only one `mordal run` may work on a study, unless it has `--workers`: these work beside those
    that `mordal worker` starts.
    """
    with interruptible(), preemptible() as stop:
        if workers is None:
            run_to_end(study_file, method, name, as_json=as_json, grow_from=grow_from, stop=stop)
            return
        from mordal_optuna.cli.worker import run_workers

        settings = run_workers(study_file, workers, method, name, grow_from, as_json=as_json)
        from mordal_optuna.driver import load_study

        command = dashboard_command(study_file, method, name)
        present(settings, load_study(settings), command, as_json=as_json)


def retry(
    study_file: StudyFile,
    *,
    candidate: Annotated[
        list[str] | None,
        typer.Option(help='"ENCODER + LLM", as it is shown; all that failed by default.'),
    ] = None,
    method: Method = None,
    name: As = None,
) -> None:
    """Clear failures, so that `mordal run` tries the candidates again.

    For failures whose cause was fixed: a candidate that has failed twice is left alone otherwise,
    and a search stops where candidates fail one after the other for a similar reason. Scores stay.
    """
    from mordal_optuna.config import read_study
    from mordal_optuna.driver import retry_failed

    settings = read_study(study_file, method=method, name=name)
    quiet_libraries()
    for pair, reason in retry_failed(settings, candidate or []).items():
        typer.echo(f"cleared {pair}: {reason}")
    typer.echo("`mordal run` tries them again")


def run_to_end(
    study_file: Path,
    method: str | None,
    name: str | None,
    *,
    as_json: bool = False,
    grow_from: str | None = None,
    stop: StopRequest | None = None,
) -> StudyResult | None:
    """Run a study, print its result and write the report.

    Args:
        study_file: study file.
        method: search method in place of the file's; None to keep that.
        name: name of the study in place of the file's; None to keep that.
        as_json: True to print JSON on standard output and progress on standard error.
        grow_from: name of an earlier study whose scores are taken over; None for the file's.
        stop: whether this process was asked to end; None if nobody asks.

    Returns:
        The result; None on ranks other than 0, which train and evaluate but print nothing.
    """
    from rich.console import Console

    from mordal_optuna.config import read_study

    settings = read_study(study_file, method=method, name=name, extends=grow_from)
    quiet_libraries()
    from mordal_optuna.driver import follow_study, run_study  # after what is quick to refuse
    from mordal_optuna.reporting.console import ConsoleProgress

    if launched_rank() > 0:
        follow_study(settings, stop)
        return None
    with (
        telling_failure(settings),
        ConsoleProgress(Console(stderr=as_json, highlight=False)) as progress,
    ):
        result = run_study(settings, progress, stop)
    command = dashboard_command(study_file, method, name)
    present(settings, result, command, as_json=as_json)
    return result


def _print_check(search: StudyResult | None, grid: StudyResult | None) -> None:
    from mordal_optuna.reporting.check import compare, print_check

    if search and grid:
        print_check(compare(search, grid), open_console())
