"""`mordal`: the command line. Commands import heavy libraries only when they run."""

from __future__ import annotations

from typing import Annotated

import typer

from mordal_optuna.cli import (
    checkpoints,
    dashboard,
    doctor,
    export,
    grid_file,
    init,
    plan,
    replay,
    study,
)
from mordal_optuna.cli import compare as compare_command
from mordal_optuna.cli import launch as launch_command
from mordal_optuna.cli import report as report_command
from mordal_optuna.cli import status as status_command
from mordal_optuna.cli import worker as workers
from mordal_optuna.cli.ending import Call, ended_by

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
app.command()(doctor.doctor)
app.command()(study.run)
app.command()(workers.worker)
app.command()(launch_command.launch)
app.command()(status_command.status)
app.command()(report_command.report)
app.command()(compare_command.compare)
app.command()(dashboard.dashboard)
app.command()(export.export)
app.command()(study.retry)
app.command("grid-file")(grid_file.grid_file)
app.command("replay")(replay.replay_command)
app.add_typer(checkpoints.app, name="checkpoints")


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    *,
    show_version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the trace of an error beside its sentence.")
    ] = False,
) -> None:
    """Find the best vision encoder and LLM pair for your task."""
    call = context.ensure_object(Call)
    call.debug, call.command = debug, context.invoked_subcommand
    if show_version:
        from importlib.metadata import version

        typer.echo(f"mordal-optuna {version('mordal-optuna')}")
        raise typer.Exit


def main() -> None:
    """Entry point: whatever ends a command is one sentence, and an exit status (`cli.ending`)."""
    call = Call()
    try:
        status = app(obj=call, standalone_mode=False)
    except Exception as error:  # noqa: BLE001 - all are shown, those of the program with a trace
        status = ended_by(error, call)
    raise SystemExit(status or 0)
