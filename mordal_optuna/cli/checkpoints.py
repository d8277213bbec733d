"""`mordal checkpoints`: list and delete the checkpoints of a study. Loads no torch."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mordal_optuna.cli.shared import StudyFile  # noqa: TC001 - typer reads the annotations
from mordal_optuna.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

    from mordal_optuna.alignment.files import CheckpointFiles

app = typer.Typer(help="List and delete the checkpoints of a study.", no_args_is_help=True)


@app.command("ls")
def list_all(
    study_file: StudyFile,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List every checkpoint: candidate, samples, size, digest."""
    from rich.console import Console
    from rich.table import Table

    rows = inventory(_files(study_file))
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    table = Table(box=None, pad_edge=False)
    for name in ("candidate", "run", "samples", "MB", "digest"):
        table.add_column(name, justify="right" if name in ("samples", "MB") else "left")
    for row in rows:
        table.add_row(
            row["candidate"],
            row["run"],
            f"{row['samples']:,}",
            f"{row['bytes'] / 1e6:.1f}",
            row["digest"][:12] if row["digest"] else f"[red]{row['problem']}",
        )
    Console().print(table)
    typer.echo(f"{len(rows)} checkpoints, {sum(r['bytes'] for r in rows) / 1e6:.1f} MB")


@app.command()
def prune(
    study_file: StudyFile,
    *,
    keep: Annotated[
        int, typer.Option(min=0, help="Highest rungs of each candidate that stay.")
    ] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
) -> None:
    """Delete all but the highest checkpoints of each candidate; scores stay in the study.

    A candidate that is promoted later continues from its highest remaining checkpoint.
    """
    files = _files(study_file)
    freed = 0
    for run in files.runs():
        rungs = files.rungs(run)
        for samples in rungs[: len(rungs) - keep]:
            freed += files.size(run, samples)
            typer.echo(f"{'would delete' if dry_run else 'deleted'} {run} at {samples} samples")
            if not dry_run:
                files.delete(run, samples)
    typer.echo(f"{freed / 1e6:.1f} MB {'would be freed' if dry_run else 'freed'}")


def inventory(files: CheckpointFiles) -> list[dict[str, Any]]:
    """One row for each checkpoint; the row of a damaged one says what its problem is."""
    rows = []
    for run in files.runs():
        for samples in files.rungs(run):
            row = {"run": run, "samples": samples, "bytes": files.size(run, samples)}
            try:
                manifest = files.manifest(run, samples)
                facts = manifest.facts
                row |= {"candidate": facts["candidate"], "digest": manifest.digest}
                row |= {"train_seconds": facts["train_seconds"], "problem": None}
            except CheckpointError as error:
                row |= {"candidate": "?", "digest": None, "problem": str(error)}
            rows.append(row)
    return sorted(rows, key=lambda row: (row["candidate"], row["run"], row["samples"]))


def _files(study_file: Path) -> CheckpointFiles:
    from mordal_optuna.alignment.files import CheckpointFiles
    from mordal_optuna.config import read_study

    return CheckpointFiles(read_study(study_file).checkpoint_folder())
