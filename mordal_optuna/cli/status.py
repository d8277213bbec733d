"""`mordal status`: what a study's workers do, what is done, who leads, what is left."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from mordal_optuna.cli.shared import As, Method, StudyFile, interruptible, open_console

if TYPE_CHECKING:
    from mordal_optuna.config import StudySettings
    from mordal_optuna.study.status import Status

# Columns if standard output is not a terminal.
_LOG_WIDTH = 100


def status(
    study_file: StudyFile,
    *,
    method: Method = None,
    name: As = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the status as one JSON object.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it anew until the study ends.")
    ] = False,
    every: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.5, help="Pause of --watch.")
    ] = 5.0,
) -> None:
    """Show who works on a study, what is done, which pair leads and what is left.

    From any machine that reaches the study's database. Nothing is written, and neither models nor
    data are opened.
    """
    import gc

    if not watch:
        gc.disable()  # nothing is thrown away before the end of this process
    from datetime import datetime

    from mordal_optuna.config import read_study
    from mordal_optuna.errors import ConfigError

    if as_json and watch:
        raise ConfigError(["--watch: given with --json; a JSON object is printed once"])
    settings = read_study(study_file, method=method, name=name, places=False)
    from mordal_optuna.reporting.status import status_json, status_view
    from mordal_optuna.study.status import read_status

    with interruptible():
        if watch:
            _watch(settings, every)
            return
        found, now = read_status(settings), datetime.now().astimezone()
        if as_json:
            import json

            typer.echo(json.dumps(status_json(found, now)))
            return
        open_console(_LOG_WIDTH).print(status_view(found, now), highlight=False)


def _watch(settings: StudySettings, seconds: float) -> None:
    """Redraw the status until the study is over; a database that is away is waited for."""
    from datetime import datetime

    from rich.live import Live

    from mordal_optuna.errors import StoreError
    from mordal_optuna.reporting.status import status_view
    from mordal_optuna.study.status import read_status

    console = open_console(_LOG_WIDTH)
    with Live(console=console, auto_refresh=False, vertical_overflow="visible") as live:
        while True:
            found: Status | None = None
            try:
                found = read_status(settings)
                live.update(status_view(found, datetime.now().astimezone()), refresh=True)
            except StoreError as error:
                live.update(f"{error}; trying again", refresh=True)
            if found and found.is_over:
                return
            time.sleep(seconds)
