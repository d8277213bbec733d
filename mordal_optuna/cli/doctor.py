"""`mordal doctor`: checks of a study's models, data and tasks, before a search spends anything."""

from __future__ import annotations

from typing import Annotated

import typer

from mordal_optuna.cli.ending import MEND
from mordal_optuna.cli.shared import (
    As,
    Method,
    StudyFile,
    interruptible,
    open_console,
    quiet_libraries,
)


def doctor(
    study_file: StudyFile,
    *,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A model of the pool; may be given several times."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the report as one JSON object, progress apart.")
    ] = False,
    method: Method = None,
    name: As = None,
) -> None:
    """Check models, templates, data and tasks by a few steps of what a search would do.

    Every model is loaded, one at a time; each is trained for 20 steps in one pair, and answers one
    document of each task. Nothing is written. The exit status is 2 if a check has failed.
    """
    import json

    from rich.console import Console

    from mordal_optuna.config import read_study
    from mordal_optuna.errors import ConfigError
    from mordal_optuna.processes.launch import launched_world_size

    settings = read_study(study_file, method=method, name=name, places=False)
    if launched_world_size() > 1:
        raise ConfigError(["mordal doctor: started as several processes; it checks on one"])
    quiet_libraries()
    from mordal_optuna.doctor.examine import examine  # loads torch
    from mordal_optuna.doctor.tables import print_report, report_json
    from mordal_optuna.reporting.console import ConsoleProgress

    with interruptible(), ConsoleProgress(Console(stderr=True, highlight=False)) as progress:
        report = examine(settings, progress, only or ())
    if as_json:
        typer.echo(json.dumps(report_json(report)))
    else:
        print_report(report, open_console())
    if report.count("failed"):
        raise typer.Exit(MEND)
