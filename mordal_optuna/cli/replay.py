"""`mordal replay`: replay one search on a grid file, or compare methods on several."""

from __future__ import annotations

import json
from pathlib import Path  # noqa: TC003 - typer reads the annotations at run time
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from mordal_optuna.cli.shared import open_console, quiet_libraries
from mordal_optuna.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.table import Table

    from mordal_optuna.replay.grid import Grid
    from mordal_optuna.replay.judging import Replay

# Columns of the tables if standard output is not a terminal.
_LOG_WIDTH = 130


def replay_command(
    files: Annotated[
        list[Path], typer.Argument(help="Grid files (JSON); others are skipped by name.")
    ],
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
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="Of what is random in the method.")
    ] = 0,
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
    """Replay a search against a grid file: what it would have found, and at what cost.

    --method takes one grid file, --compare any number. `mordal grid-file` writes one of a study.
    """
    quiet_libraries()
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


def replay_one(
    files: Sequence[Path],
    method: str,
    preset: str,
    *,
    seed: int,
    workers: int,
    budget: float | None,
    as_json: bool,
) -> None:
    """Replay one method on one file and print the outcome.

    Args:
        files: files, exactly one of which holds a grid.
        method: name of a search method.
        preset: `default` or `faithful`.
        seed: random seed of the method.
        workers: number of workers on the simulated clock.
        budget: budget in full runs; None for the method's default.
        as_json: True to print one JSON object.

    Raises:
        ConfigError: if several files hold grids, or the method or the preset is unknown.
        GridError: if the file cannot be used.
    """
    from mordal_optuna.replay.run import Preset, method_settings, replay

    if preset not in get_args(Preset):
        raise ConfigError([f"--preset: got {preset!r}; allowed are {', '.join(get_args(Preset))}"])
    grids = _read(files)
    if len(grids) != 1:
        raise ConfigError(
            [
                f"{len(grids)} grid files were given; --method takes one, `--compare {method}` "
                "several"
            ]
        )
    (grid,) = grids
    settings = method_settings(method, "faithful" if preset == "faithful" else "default")
    replayed = replay(grid, method, settings=settings, seed=seed, workers=workers, budget=budget)
    if as_json:
        typer.echo(json.dumps({**replayed.to_json(), "estimated_scores": grid.estimated}))
    else:
        console = open_console(_LOG_WIDTH)
        _print(replayed, console)
        _note_estimates(grid, console)


def replay_many(
    files: Sequence[Path],
    methods: Sequence[str],
    *,
    seeds: int,
    workers: int,
    budget: float | None,
    as_json: bool,
) -> None:
    """Compare methods over files and seeds in one table.

    Args:
        files: grid files; those that hold something else are skipped.
        methods: names of search methods.
        seeds: number of seeds.
        workers: number of workers on the simulated clock.
        budget: budget of every method in full runs; None for each method's default.
        as_json: True to print one JSON object.

    Raises:
        ConfigError: if a method is unknown.
        GridError: if a file cannot be used.
    """
    from rich.console import Console
    from rich.progress import Progress

    from mordal_optuna.replay.compare import compare, print_comparison
    from mordal_optuna.replay.run import check_method

    for method in methods:  # before the first of them is run
        check_method(method)
    grids = _read(files)
    bar = Progress(console=Console(stderr=True), transient=True)
    with bar:
        task = bar.add_task("replaying", total=len(grids) * len(methods) * seeds)
        comparisons = compare(
            grids,
            methods,
            seeds=seeds,
            workers=workers,
            budget=budget,
            advance=lambda done: bar.advance(task, done),
        )
    if as_json:
        rows = {c.method: {"replays": c.replays, **c.figures} for c in comparisons}
        typer.echo(json.dumps(rows))
        return
    over = "files" if len(grids) > 1 else "seeds"
    title = f"{len(grids)} grid file(s), {seeds} seed(s), {workers} worker(s); 95 % over {over}"
    console = open_console(_LOG_WIDTH)
    print_comparison(comparisons, console, title=title, workers=workers)
    for grid in grids:
        _note_estimates(grid, console)


def _read(files: Sequence[Path]) -> list[Grid]:
    """The grids among some files; a line on standard error names each file that is none.

    Raises:
        GridError: if a file is missing or broken, or none holds a grid.
    """
    from mordal_optuna.replay.grid import read_grids

    grids, others = read_grids(files)
    for reason in others:
        typer.echo(f"skipped: {reason}", err=True)
    return grids


def _note_estimates(grid: Grid, console: Console) -> None:
    if grid.estimated:
        console.print(
            f"note     {grid.estimated} of {grid.scores} scores of {grid.task} are estimates of a "
            "study, not measurements; the search saw them as scores, and was judged by them"
        )


def _print(replayed: Replay, console: Console) -> None:
    console.print(_ranking(replayed))
    cost = replayed.cost
    console.print(
        f"picked   {' + '.join(replayed.picked)}; regret {100 * replayed.regret:.2f} points"
    )
    console.print(
        f"tau      {replayed.tau:.3f} weighted, {replayed.tau_random_ties:.3f} with ties at random"
    )
    if replayed.full_runs is None or replayed.gain is None:
        console.print("cost     not known: all seconds of the grid file are 0")
    else:
        console.print(
            f"cost     {replayed.full_runs:.2f} full runs, the grid over {replayed.gain:.1f} "
            f"(projected to 7B: {_shown(replayed.gain_projected)}); features {cost.features:.1f} "
            f"s, warm-up {cost.warmup:.1f} s, training {cost.training:.1f} s, evaluation "
            f"{cost.evaluation:.1f} s"
        )
    if replayed.workers > 1:
        console.print(
            f"elapsed  {replayed.elapsed_seconds:.1f} s of simulated time with "
            f"{replayed.workers} workers, from the first trial to the last score; comparing the "
            "models comes before"
        )
    console.print(f"ended    {replayed.stopped_because}")


def _ranking(replayed: Replay) -> Table:
    from rich.table import Table

    title = f"{replayed.method} on {replayed.task}"
    table = Table(title=title, title_justify="left", box=None)
    for name in ("rank", "vision encoder", "llm", "estimate, %", "interval", "provenance"):
        table.add_column(name, justify="right" if name in ("rank", "estimate, %") else "left")
    for rank, e in enumerate(replayed.ranking, start=1):
        table.add_row(
            str(rank),
            e.candidate.vision_encoder,
            e.candidate.llm,
            f"{100 * e.value:.1f}",
            f"{100 * e.low:.1f} to {100 * e.high:.1f}",
            e.provenance,
        )
    return table


def _shown(gain: float | None) -> str:
    return "not known" if gain is None else f"{gain:.1f}"
