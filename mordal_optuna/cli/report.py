"""`mordal report`: the report of a study in any state, from its database alone."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotations at run time
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mordal_optuna.cli.shared import (
    As,
    Method,
    StudyFile,
    dashboard_command,
    quiet_libraries,
    report_so_far,
)

if TYPE_CHECKING:
    from mordal_optuna.config import StudySettings


def report(
    study_file: StudyFile,
    *,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Folder to write to; the work folder by default."),
    ] = None,
    kind: Annotated[
        Literal["html", "md", "json", "all"],
        typer.Option("--format", help="What to write; all by default."),
    ] = "all",
    method: Method = None,
    name: As = None,
) -> None:
    """Write the report of a study that runs, was stopped or has ended: HTML, Markdown and JSON.

    From any machine that reaches the study's database. Neither models nor data are opened, and
    workers are not disturbed. The report of a study that has not ended says so in its first line.
    """
    from mordal_optuna.config import read_study
    from mordal_optuna.files.folders import make_folder

    settings = read_study(study_file, method=method, name=name, places=False)
    check_scored(settings)
    quiet_libraries()
    from mordal_optuna.driver import load_study

    result = load_study(settings)
    folder = out or settings.workdir
    make_folder(folder, "--out" if out else "workdir")
    from mordal_optuna.reporting.report import FORMATS, write_reports

    notice, unfinished = report_so_far(settings, result)
    written = write_reports(
        result,
        folder,
        dashboard_command=dashboard_command(study_file, method, name),
        notice=notice,
        unfinished=unfinished,
        formats=FORMATS if kind == "all" else (kind,),
    )
    if notice:
        typer.echo(notice)
    for path in written:
        typer.echo(str(path))


def check_scored(settings: StudySettings) -> None:
    """Refuse a study without any score; a database that does not exist is not created.

    Args:
        settings: the study file's settings.

    Raises:
        SearchError: if the study has no score yet; the message says in which state it is.
        ConfigError: if the database cannot be used.
    """
    from mordal_optuna.errors import SearchError
    from mordal_optuna.reporting.status import STATES
    from mordal_optuna.study.status import read_status

    found = read_status(settings)
    if found.leader is None:
        raise SearchError(
            f"study {settings.study!r} has no score yet (state: {STATES[found.state]}); a report "
            "needs at least one; `mordal status` shows what is done"
        )
