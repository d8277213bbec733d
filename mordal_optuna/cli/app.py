"""`mordal`: the command line. Heavy imports happen inside the commands that need them."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path  # noqa: TC003 - typer reads the annotations at run time
from typing import TYPE_CHECKING, Annotated

import typer

from mordal_optuna.cli import checkpoints
from mordal_optuna.errors import (
    ConfigError,
    GridError,
    InputsChangedError,
    MordalError,
    StudyMismatchError,
)
from mordal_optuna.processes.launch import launched_rank
from mordal_optuna.processes.outages import is_outage, outage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from mordal_optuna.config import StudySettings
    from mordal_optuna.study.result import StudyResult

app = typer.Typer(
    name="mordal",
    help="Find the best vision encoder and LLM pair for your task.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

_REPORTED = (
    "optuna",
    "lmms-eval",
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "numpy",
    "scipy",
    "sqlalchemy",
)

_BEYOND = "beyond LLaVA's own class (llava.py in the folder does it)"

# Columns of the tables where output goes to a file.
_LOG_WIDTH = 100

Method = Annotated[
    str | None,
    typer.Option(help="Search by another method, such as grid, as a study of its own."),
]
As = Annotated[
    str | None,
    typer.Option(
        "--as",
        metavar="NAME",
        help="Give the study another name. Checkpoints and scores of earlier ones are reused.",
    ),
]


@app.callback(invoke_without_command=True)
def root(
    *,
    show_version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.")
    ] = False,
) -> None:
    """Find the best vision encoder and LLM pair for your task."""
    if show_version:
        typer.echo(f"mordal-optuna {version('mordal-optuna')}")
        raise typer.Exit


@app.command()
def quickstart(
    *,
    method: Method = None,
    name: As = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Train the whole grid as well; print both side by side."),
    ] = False,
) -> None:
    """Build a small pool on this machine, search it, print the ranking, write a report.

    The same as `mordal run` with the shipped study file quickstart.yaml. Everything is put under
    ./runs; a second call continues or finds everything done.
    """
    from mordal_optuna.config.shipped import shipped

    if check and method == "grid":
        raise ConfigError(["--check: got --method grid; a search is compared with the grid"])
    _run(shipped("studies") / "quickstart.yaml", method, name, check=check)


@app.command()
def run(
    study_file: Annotated[Path, typer.Argument(help="A study file (YAML).")],
    *,
    method: Method = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as one JSON object, progress apart.")
    ] = False,
    name: As = None,
) -> None:
    """Run a study file to its end, or continue it."""
    _run(study_file, method, name, as_json=as_json)


@app.command()
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
    with _interruptible():
        _export(study_file, folder, candidate, method, name, train=train)


@app.command()
def retry(
    study_file: Annotated[Path, typer.Argument(help="A study file (YAML).")],
    *,
    candidate: Annotated[
        list[str] | None,
        typer.Option(help='"ENCODER + LLM", as it is shown; all that failed by default.'),
    ] = None,
    method: Method = None,
    name: As = None,
) -> None:
    """Clear failures, so that `mordal run` tries the candidates again.

    For failures whose cause was mended: a candidate that has failed twice is left alone otherwise,
    and a search stops where candidates fail one after the other for a like reason. Scores stay.
    """
    from mordal_optuna.config import read_study
    from mordal_optuna.driver import retry_failed

    settings = read_study(study_file, method=method, name=name)
    _quiet_libraries()
    for pair, reason in retry_failed(settings, candidate or []).items():
        typer.echo(f"cleared {pair}: {reason}")
    typer.echo("`mordal run` tries them again")


app.add_typer(checkpoints.app, name="checkpoints")


@app.command()
def replay(
    files: Annotated[list[Path], typer.Argument(help="Grid files (JSON); --method takes one.")],
    *,
    method: Annotated[
        str, typer.Option(help="mordal, grid, random, optuna-tpe-hyperband, ...")
    ] = "mordal",
    preset: Annotated[
        str, typer.Option(help="default, or faithful: the paper's thresholds, halving and curves.")
    ] = "default",
    compare: Annotated[
        str | None,
        typer.Option(help="Methods, separated by commas: one table over files and seeds."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of what is random in the method.")] = 0,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of a comparison.")] = 10,
    workers: Annotated[int, typer.Option(min=1, help="Workers on the simulated clock.")] = 1,
    budget: Annotated[
        float | None,
        typer.Option(
            help="Stop once so many full runs are spent. By default random and stock Optuna "
            "get what mordal spends, the others have no limit."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Replay a search against a grid file: what it would have found, and at what cost."""
    from mordal_optuna.cli.replay import replay_many, replay_one

    _quiet_libraries()
    if compare is None:
        replay_one(
            files, method, preset, seed=seed, workers=workers, budget=budget, as_json=as_json
        )
    else:
        replay_many(
            files,
            compare.split(","),
            seeds=seeds,
            workers=workers,
            budget=budget,
            as_json=as_json,
        )


def main() -> None:
    """Entry point: errors in one sentence; exit status 2 for a file that cannot be run."""
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
        typer.echo(f"mordal: {outage(error)}; the same command goes on", err=True)
        raise SystemExit(1) from None


def _run(
    study_file: Path,
    method: str | None,
    name: str | None = None,
    *,
    as_json: bool = False,
    check: bool = False,
) -> None:
    with _interruptible():
        result = _run_to_end(study_file, method, name, as_json=as_json)
        if check:
            _check(result, _run_to_end(study_file, "grid", name and f"{name}-grid"))


@contextmanager
def _interruptible() -> Iterator[None]:
    """Say what is kept where Ctrl-C ends a command that trains."""
    try:
        yield
    except KeyboardInterrupt:
        # A launcher may pass the same Ctrl-C on once more; leaving must not be interrupted.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        typer.echo(
            "\nmordal: interrupted; what was finished is kept; the same command goes on",
            err=True,
        )
        raise typer.Exit(130) from None


def _run_to_end(
    study_file: Path, method: str | None, name: str | None, *, as_json: bool = False
) -> StudyResult | None:
    """The result, which is printed as well; None on a process that does not lead."""
    from rich.console import Console

    from mordal_optuna.config import read_study
    from mordal_optuna.driver import follow_study, run_study
    from mordal_optuna.reporting.console import ConsoleProgress

    settings = read_study(study_file, method=method, name=name)
    _quiet_libraries()
    if launched_rank() > 0:
        follow_study(settings)
        return None
    with ConsoleProgress(Console(stderr=as_json, highlight=False)) as progress:
        result = run_study(settings, progress)
    _present(settings, result, as_json=as_json)
    return result


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
    from mordal_optuna.driver import follow_study
    from mordal_optuna.exporting import export_candidate
    from mordal_optuna.reporting import words
    from mordal_optuna.reporting.console import ConsoleProgress

    settings = read_study(study_file, method=method, name=name)
    _quiet_libraries()
    if launched_rank() > 0:
        follow_study(settings)
        return
    with ConsoleProgress() as progress:
        done = export_candidate(settings, folder, progress, name=candidate, train=train)
    typer.echo(f"written to {folder}: {done.candidate}")
    for line in (*done.scores, *(f"{_BEYOND}: {need}" for need in done.needs)):
        typer.echo(f"  {line}")
    if done.samples < done.full_samples:
        price = words.duration(done.seconds_to_full)
        typer.echo(
            f"trained on {done.samples:,} of {done.full_samples:,} samples; "
            f"`mordal export ... --train` trains it on (about {price} more)"
        )


def _check(search: StudyResult | None, grid: StudyResult | None) -> None:
    from mordal_optuna.reporting.check import compare, print_check

    if search and grid:
        print_check(compare(search, grid), _console())


def _console() -> Console:
    """Standard output; of a fixed width where it is no terminal."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=_LOG_WIDTH)


def _present(settings: StudySettings, result: StudyResult, *, as_json: bool) -> None:
    """Print the result, write the report, and put both into the dashboard."""
    import json

    from mordal_optuna.driver import open_study
    from mordal_optuna.reporting.dashboard import dashboard_command, publish
    from mordal_optuna.reporting.plain import to_json
    from mordal_optuna.reporting.report import write_report
    from mordal_optuna.reporting.tables import print_result

    command = dashboard_command(settings.storage_url())
    report = write_report(
        result,
        settings.workdir / f"{settings.study}.html",
        dashboard_command=command,
        versions={name: version(name) for name in _REPORTED},
    )
    published = publish(open_study(settings), result)
    if as_json:
        typer.echo(json.dumps(to_json(result)))
        return
    console = _console()
    print_result(result, console)
    console.print(f"report     {report}", soft_wrap=True, highlight=False)
    console.print(f"dashboard  {command}", soft_wrap=True, highlight=False)
    if not published:
        console.print(
            "           for figures in it, first repeat this command with `--extra dashboard`",
            highlight=False,
        )


def _quiet_libraries() -> None:
    """Keep the libraries' own chatter out of the terminal; the user's settings win."""
    import optuna

    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
