"""Replay all methods and write the table.

    OMP_NUM_THREADS=1 uv run python -m benchmarks.rivals_search                # a quick look
    OMP_NUM_THREADS=1 uv run python -m benchmarks.rivals_search \
        --bootstraps 200 --synthetic 100                                       # the full table
    OMP_NUM_THREADS=1 uv run python -m benchmarks.rivals_search \
        --ablations --large 20                        # and `joint` without its parts, and 16 x 16

Every finished search is stored in `runs.jsonl`, so that an interrupted run, a larger one and a run
of further methods continue. After a change of a method, `--forget METHOD` runs it anew.
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import optuna

from benchmarks.rivals_search.ablations import ABLATIONS, ALL, UNCHANGED
from benchmarks.rivals_search.methods import METHODS
from benchmarks.rivals_search.replays import (
    LARGE,
    SYNTHETIC,
    keys_of,
    read_results,
    run_grid,
    to_lines,
)
from benchmarks.rivals_search.tables import render
from mordal_optuna.zoo.tasks.names import TASKS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.rivals_search.replays import Key

HERE = Path(__file__).parent
_SHOWN = 20
# Methods and ablations on grids of 16 x 16, and their limit in full runs: a 56th of the grid.
_ON_LARGE = (
    *("joint", "mordal", "mordal-to-its-end"),
    *(UNCHANGED, "no-cka", "cka-of-encoders", "start-1", "start-at-1/16"),
)
_LARGE_BUDGETS = (4.6,)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the searches that are missing, then write the table."""
    chosen = _parse(arguments)
    wanted = _wanted(chosen)
    results = read_results(chosen.runs)
    results = {key: row for key, row in results.items() if key.method not in chosen.forget}
    chosen.runs.write_text(to_lines(results), encoding="utf-8")
    missing = [key for key in wanted if key not in results]
    batches = [list(keys) for _, keys in groupby(missing, key=lambda k: (k.source, k.number))]
    started = time.perf_counter()
    run = partial(run_grid, chosen.grids, chosen.tasks)
    with (
        ProcessPoolExecutor(chosen.processes, initializer=_quiet) as pool,
        chosen.runs.open("a", encoding="utf-8") as file,
    ):
        for number, found in enumerate(pool.map(run, batches), start=1):
            results |= found
            file.write(to_lines(found))
            file.flush()
            if number % _SHOWN == 0:
                seconds = time.perf_counter() - started
                print(f"{number} of {len(batches)} grids, {seconds:.0f} s", flush=True)
    text = render(
        {key: results[key] for key in wanted},
        chosen.tasks,
        bootstraps=chosen.bootstraps,
        synthetic=chosen.synthetic,
        seeds=chosen.seeds,
        large=chosen.large,
    )
    chosen.markdown.write_text(text, encoding="utf-8")
    print(f"{chosen.markdown}: {len(missing)} searches in {time.perf_counter() - started:.0f} s")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bootstraps", type=int, default=4)
    parser.add_argument("--synthetic", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3, help="seeds on the full data")
    parser.add_argument("--budgets", type=float, nargs="+", default=[3.0, 4.0])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--ablations", action="store_true", help="also `joint` without its parts")
    parser.add_argument("--large", type=int, default=0, help="synthetic grids of 16 x 16")
    parser.add_argument("--forget", nargs="+", default=[], choices=list(ALL))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--grids", type=Path, default=HERE.parent / "minigrid" / "grids")
    parser.add_argument("--runs", type=Path, default=HERE / "runs.jsonl")
    parser.add_argument("--markdown", type=Path, default=HERE / "RESULTS.md")
    return parser.parse_args(arguments)


def _wanted(chosen: argparse.Namespace) -> list[Key]:
    """All searches of the tables, those on the same grid together."""
    methods = [*chosen.methods, *(ABLATIONS if chosen.ablations else ())]
    keys = [
        key
        for source, number in _grids(chosen)
        for key in keys_of(source, number, methods, chosen.budgets)
    ]
    on_large = [name for name in methods if name in _ON_LARGE]
    for number in range(chosen.large):
        keys += keys_of(LARGE, number, on_large, _LARGE_BUDGETS)
    return keys


def _grids(chosen: argparse.Namespace) -> list[tuple[str, int]]:
    """The grids: the full data with every seed, the bootstraps, the synthetic grids."""
    numbers = [-1 - seed for seed in range(chosen.seeds)] + list(range(chosen.bootstraps))
    tasks = [(task, n) for n in numbers for task in chosen.tasks] if chosen.bootstraps else []
    return tasks + [(SYNTHETIC, n) for n in range(chosen.synthetic)]


def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
