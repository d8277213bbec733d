"""What `mordal replay` prints."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, get_args

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from mordal_optuna.errors import ConfigError
from mordal_optuna.replay.compare import compare, print_comparison
from mordal_optuna.replay.grid import read_grid
from mordal_optuna.replay.run import Preset, check_method, method_settings, replay

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mordal_optuna.replay.run import Replay

# Columns of a table where output goes to a file.
_LOG_WIDTH = 130


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
    """Replay one method on one file and print what it found.

    Raises:
        ConfigError: for several files, or an unknown method or preset.
        GridError: if the file cannot be used.
    """
    if len(files) != 1:
        raise ConfigError([f"{len(files)} grid files were given; --method takes one"])
    if preset not in get_args(Preset):
        raise ConfigError([f"--preset: got {preset!r}; allowed are {', '.join(get_args(Preset))}"])
    grid = read_grid(files[0])
    settings = method_settings(method, "faithful" if preset == "faithful" else "default")
    found = replay(grid, method, settings=settings, seed=seed, workers=workers, budget=budget)
    if as_json:
        print(json.dumps(found.to_json()))  # noqa: T201 - exactly one JSON object on stdout
    else:
        _print(found, _console())


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

    Raises:
        ConfigError: for an unknown method.
        GridError: if a file cannot be used.
    """
    for method in methods:  # before any of them is run
        check_method(method)
    grids = [read_grid(path) for path in files]
    bar = Progress(console=Console(stderr=True), transient=True)
    with bar:
        task = bar.add_task("replaying", total=len(grids) * len(methods) * seeds)
        found = compare(
            grids,
            methods,
            seeds=seeds,
            workers=workers,
            budget=budget,
            advance=lambda done: bar.advance(task, done),
        )
    if as_json:
        rows = {c.method: {"replays": c.replays, **c.figures} for c in found}
        print(json.dumps(rows))  # noqa: T201 - exactly one JSON object on stdout
        return
    over = "files" if len(grids) > 1 else "seeds"
    title = f"{len(grids)} grid file(s), {seeds} seed(s), {workers} worker(s); 95 % over {over}"
    print_comparison(found, _console(), title=title)


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=_LOG_WIDTH)


def _shown(gain: float | None) -> str:
    return "not known" if gain is None else f"{gain:.1f}"


def _print(found: Replay, console: Console) -> None:
    table = Table(title=f"{found.method} on {found.task}", title_justify="left", box=None)
    for title in ("rank", "vision encoder", "llm", "estimate, %", "interval", "known"):
        table.add_column(title, justify="right" if title in ("rank", "estimate, %") else "left")
    for rank, e in enumerate(found.ranking, start=1):
        table.add_row(
            str(rank),
            e.candidate.vision_encoder,
            e.candidate.llm,
            f"{100 * e.value:.1f}",
            f"{100 * e.low:.1f} to {100 * e.high:.1f}",
            e.provenance,
        )
    console.print(table)
    cost = found.cost
    console.print(f"picked   {' + '.join(found.picked)}; regret {100 * found.regret:.2f} points")
    console.print(
        f"tau      {found.tau:.3f} weighted, {found.tau_random_ties:.3f} with ties at random"
    )
    if found.full_runs is None or found.gain is None:
        console.print("cost     not known: all seconds of the grid file are 0")
    else:
        console.print(
            f"cost     {found.full_runs:.2f} full runs, the grid over {found.gain:.1f} "
            f"(projected to 7B: {_shown(found.gain_projected)}); features {cost.features:.1f} s, "
            f"warm-up {cost.warmup:.1f} s, training {cost.training:.1f} s, evaluation "
            f"{cost.evaluation:.1f} s"
        )
    console.print(f"ended    {found.stopped_because}")
