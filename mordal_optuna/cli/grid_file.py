"""`mordal grid-file`: a study's scores as grid files, for replays of other searches."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mordal_optuna.cli.shared import As, Method, StudyFile, interruptible

if TYPE_CHECKING:
    from mordal_optuna.replay.from_study import GridContent, StudyScores


def grid_file(
    study_file: StudyFile,
    *,
    to: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Folder of the files; made if it is missing.")
    ] = Path(),
    fill: Annotated[
        bool,
        typer.Option("--fill", help="Write estimates, marked, for scores that were not measured."),
    ] = False,
    compared_in: Annotated[
        str | None,
        typer.Option(
            metavar="STUDY",
            help="Take the models' similarities from another study in the same database.",
        ),
    ] = None,
    method: Method = None,
    name: As = None,
) -> None:
    """Write a study's scores as a grid file for `mordal replay`: STUDY.json, or one file a task.

    From any machine that reaches the study's database. Neither models nor data are opened.
    """
    from mordal_optuna.config import read_study
    from mordal_optuna.replay.from_study import grid_content, read_scores

    settings = read_study(study_file, method=method, name=name, places=False)
    with interruptible():
        scores = read_scores(settings, compared_in=compared_in)
        grids = {task: grid_content(scores, task, fill=fill) for task in scores.tasks}
        for task, grid in grids.items():
            stem = scores.study if len(grids) == 1 else f"{scores.study}.{task}"
            path = to / f"{stem}.json"
            _write(path, grid)
            typer.echo(f"written to {path}: {_summary(scores, grid)}")


def _write(path: Path, grid: GridContent) -> None:
    import json

    from mordal_optuna.files.atomic import atomic_write

    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(grid.content, allow_nan=False), encoding="utf-8")


def _summary(scores: StudyScores, grid: GridContent) -> str:
    """What a file holds and lacks, in one line."""
    said = [f"{grid.scored} of {grid.pairs} pairs have scores"]
    if grid.missing and grid.filled:
        said.append(f"{grid.missing} scores are estimates, marked as such")
    elif grid.missing:
        said.append(
            f"{grid.missing} scores are missing, so `mordal replay` refuses it; --fill writes "
            "estimates in their place"
        )
    if scores.representation is None:
        said.append("no similarities of the models (--compared-in takes another study's)")
    if not scores.ended:
        said.append("the search has not ended")
    return "; ".join(said)
