"""`mordal compare`: studies of one task side by side, from their databases alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mordal_optuna.cli.shared import open_console, quiet_libraries

if TYPE_CHECKING:
    from mordal_optuna.config import StudySettings


def compare(
    studies: Annotated[
        list[str],
        typer.Argument(
            metavar="STUDY...",
            help="Two or more study files; FILE@NAME is another study in the file's database, as "
            "of `mordal run FILE --as NAME` or `--method`.",
        ),
    ],
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the comparison as one JSON object.")
    ] = False,
) -> None:
    """Compare studies of one task: cost, picked pair, ranks, regret and rank correlation.

    At any time, from any machine that reaches their databases; neither models nor data are opened.
    Regret is by how much a study estimates its own winner above the other study's pick.
    """
    import json

    opened = [_settings(study) for study in studies]
    from mordal_optuna.cli.report import check_scored

    for settings in opened:
        check_scored(settings)
    quiet_libraries()
    from mordal_optuna.reporting.compared import compared_json, print_compared
    from mordal_optuna.study.comparing import compare_studies, load_side

    compared = compare_studies([load_side(settings) for settings in opened])
    if as_json:
        typer.echo(json.dumps(compared_json(compared)))
        return
    print_compared(compared, open_console())


def _settings(study: str) -> StudySettings:
    """The settings of FILE or FILE@NAME; the latter has the method that the study was run with."""
    from mordal_optuna.config import read_study
    from mordal_optuna.study.comparing import stored_method

    file, _, name = study.rpartition("@")
    if not file or Path(study).is_file():
        return read_study(Path(study), places=False)
    settings = read_study(Path(file), name=name, places=False)
    method = stored_method(settings)
    return read_study(Path(file), name=name, method=method, places=False)
