"""`mordal plan`: what a study will take, before anything is spent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mordal_optuna.cli.shared import As, Method, StudyFile, interruptible, open_console

if TYPE_CHECKING:
    from mordal_optuna.config import StudySettings
    from mordal_optuna.planning.devices import Device
    from mordal_optuna.planning.plan import FirstPage

# Columns if standard output is not a terminal.
_LOG_WIDTH = 110


def plan(
    study_file: StudyFile,
    *,
    device: Annotated[
        str | None,
        typer.Option(help="h100, h200, a100, l40s, l4, 4090, 3090 or cpu; h100 by default."),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            metavar="TERAOPS", help="10^12 operations a second that training reaches on it."
        ),
    ] = None,
    measure: Annotated[
        bool,
        typer.Option("--measure", help="Measure this machine's device for a second; loads torch."),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the plan as one JSON object.")
    ] = False,
    method: Method = None,
    name: As = None,
) -> None:
    """Show what a study will take: models, data, memory, disk, hours, and what a budget buys.

    Nothing is downloaded but small files, nothing is loaded, and nothing is written.
    """
    import json

    from mordal_optuna.config import read_study
    from mordal_optuna.planning.plain import plan_json
    from mordal_optuna.planning.plan import first_page, second_page
    from mordal_optuna.planning.tables import print_first, print_second

    settings = read_study(study_file, method=method, name=name, places=False)
    chosen = _device(settings, device, rate, measured=measure)
    with interruptible():
        first = first_page(settings)
        console = open_console(_LOG_WIDTH)
        if not as_json:
            print_first(first, console)
        second = second_page(first, _measured(first) if measure else chosen)
        if as_json:
            typer.echo(json.dumps(plan_json(first, second)))
        else:
            print_second(second, console)


def _device(
    settings: StudySettings, name: str | None, rate: float | None, *, measured: bool
) -> Device:
    """The device of the table that is asked for; that of the study file if it is the CPU."""
    from mordal_optuna.errors import ConfigError
    from mordal_optuna.planning.devices import device_named

    if measured and (name or rate):
        given = "--device" if name else "--rate"
        raise ConfigError([f"--measure: given with {given}; it measures this machine's device"])
    default = "cpu" if settings.runtime.device == "cpu" or settings.zoo else "h100"
    return device_named(name or default, rate)


def _measured(first: FirstPage) -> Device:
    """This machine's device, measured with products of the pool's shapes."""
    from mordal_optuna.planning.measuring import measured_device

    return measured_device(first)
