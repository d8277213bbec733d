"""Write the tables of the minigrid, computed from the committed grid files alone.

    OMP_NUM_THREADS=1 uv run python -m benchmarks.minigrid.tables

writes `benchmarks/minigrid/RESULTS.md` and `benchmarks/minigrid/results.json`.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import optuna

from benchmarks.minigrid.tables.analysis import Effort, analyse, to_json
from benchmarks.minigrid.tables.render import render
from mordal_optuna.zoo.tasks.names import TASKS

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE = Path(__file__).parents[1]


def main(arguments: Sequence[str] | None = None) -> None:
    """Compute the tables and write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--grids", type=Path, default=HERE / "grids")
    parser.add_argument("--markdown", type=Path, default=HERE / "RESULTS.md")
    parser.add_argument("--results", type=Path, default=HERE / "results.json")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--bootstraps", type=int, default=Effort.methods)
    parser.add_argument("--stock-bootstraps", type=int, default=Effort.stock)
    parser.add_argument("--seeds", type=int, default=Effort.seeds)
    parser.add_argument("--ablation-bootstraps", type=int, default=Effort.ablations)
    parser.add_argument("--store-bootstraps", type=int, default=Effort.store)
    parser.add_argument("--tie-bootstraps", type=int, default=Effort.ties)
    chosen = parser.parse_args(arguments)
    effort = Effort(
        methods=chosen.bootstraps,
        stock=chosen.stock_bootstraps,
        seeds=chosen.seeds,
        ablations=chosen.ablation_bootstraps,
        store=chosen.store_bootstraps,
        ties=chosen.tie_bootstraps,
    )
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    started = time.perf_counter()
    analysis = analyse(chosen.grids, chosen.tasks, effort, processes=chosen.processes)
    chosen.markdown.write_text(render(analysis, effort), encoding="utf-8")
    stored = json.dumps(to_json(analysis), indent=1)
    chosen.results.write_text(stored + "\n", encoding="utf-8")
    print(f"{chosen.markdown} and {chosen.results} in {time.perf_counter() - started:.0f} s")
