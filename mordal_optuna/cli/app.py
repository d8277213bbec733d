"""`mordal`: the command line. Commands import heavy libraries only when they run."""

from __future__ import annotations

from typing import Annotated

import typer

from mordal_optuna.cli import checkpoints, dashboard, export, init, plan, replay, study
from mordal_optuna.cli import launch as launch_command
from mordal_optuna.cli import status as status_command
from mordal_optuna.cli import worker as workers
from mordal_optuna.errors import (
    ConfigError,
    GridError,
    InputsChangedError,
    MordalError,
    StudyMismatchError,
)
from mordal_optuna.processes.outages import is_outage, outage

app = typer.Typer(
    name="mordal",
    help="Find the best vision encoder and LLM pair for your task.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
# `mordal --help` lists the commands in this order.
app.command()(study.quickstart)
app.command()(init.init)
app.command()(init.studies)
app.command()(plan.plan)
app.command()(study.run)
app.command()(workers.worker)
app.command()(launch_command.launch)
app.command()(status_command.status)
app.command()(dashboard.dashboard)
app.command()(export.export)
app.command()(study.retry)
app.command("replay")(replay.replay_command)
app.add_typer(checkpoints.app, name="checkpoints")


@app.callback(invoke_without_command=True)
def root(
    *,
    show_version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.")
    ] = False,
) -> None:
    """Find the best vision encoder and LLM pair for your task."""
    if show_version:
        from importlib.metadata import version

        typer.echo(f"mordal-optuna {version('mordal-optuna')}")
        raise typer.Exit


def main() -> None:
    """Entry point: one sentence for an error; exit status 2 for a file that cannot be run."""
    try:
        app()
    except (ConfigError, GridError, InputsChangedError, StudyMismatchError) as error:
        typer.echo(f"mordal: {error}", err=True)
        raise SystemExit(2) from None
    except MordalError as error:
        typer.echo(f"mordal: {error}", err=True)
        raise SystemExit(1) from None
    except Exception as error:
        if not is_outage(error):
            raise
        typer.echo(f"mordal: {outage(error)}; run the same command again to continue", err=True)
        raise SystemExit(1) from None
