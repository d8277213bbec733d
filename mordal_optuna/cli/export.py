"""`mordal export`: write a candidate of a study as a Hugging Face folder."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotations at run time
from typing import Annotated

import typer

from mordal_optuna.cli.shared import As, Method, interruptible, quiet_libraries
from mordal_optuna.processes.launch import launched_rank

_BEYOND = "beyond transformers' LLaVA class (llava.py in the folder does it)"


def export(
    study_file: Annotated[Path, typer.Argument(help="A study file (YAML) that has ended.")],
    folder: Annotated[Path, typer.Argument(help="A new folder.")],
    *,
    train: Annotated[
        bool, typer.Option("--train", help="First train it on all alignment samples.")
    ] = False,
    candidate: Annotated[
        str | None,
        typer.Option(help='"ENCODER + LLM", as it is shown; the winner by default.'),
    ] = None,
    method: Method = None,
    name: As = None,
) -> None:
    """Write a study's winner as a Hugging Face folder: LoRA merged, processor, model card.

    Of its checkpoints the highest is taken. The card begins with what exactly these weights score.
    """
    with interruptible():
        _export(study_file, folder, candidate, method, name, train=train)


def _export(
    study_file: Path,
    folder: Path,
    candidate: str | None,
    method: str | None,
    name: str | None,
    *,
    train: bool,
) -> None:
    from mordal_optuna.config import read_study

    settings = read_study(study_file, method=method, name=name)
    quiet_libraries()
    from mordal_optuna.driver import follow_study  # after what is quick to refuse
    from mordal_optuna.exporting import export_candidate
    from mordal_optuna.reporting import words
    from mordal_optuna.reporting.console import ConsoleProgress

    if launched_rank() > 0:
        follow_study(settings)
        return
    with ConsoleProgress() as progress:
        exported = export_candidate(settings, folder, progress, name=candidate, train=train)
    typer.echo(f"written to {folder}: {exported.candidate}")
    for line in (*exported.scores, *(f"{_BEYOND}: {need}" for need in exported.needs)):
        typer.echo(f"  {line}")
    if exported.samples < exported.full_samples:
        price = words.duration(exported.seconds_to_full)
        typer.echo(
            f"trained on {exported.samples:,} of {exported.full_samples:,} samples; "
            f"`mordal export ... --train` trains it on (about {price} more)"
        )
