"""The tables of the minigrid, from the committed grid files alone.

    OMP_NUM_THREADS=1 uv run python -m benchmarks.minigrid.tables

rewrites the section between the markers in `benchmarks/README.md`, and
`benchmarks/minigrid/results.json`.
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
from mordal_optuna.errors import GridError
from mordal_optuna.zoo.tasks.names import TASKS

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE = Path(__file__).parent
BEGIN, END = "<!-- minigrid:begin -->", "<!-- minigrid:end -->"


def main(arguments: Sequence[str] | None = None) -> None:
    """Compute, write the README's section and `results.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--grids", type=Path, default=HERE / "grids")
    parser.add_argument("--readme", type=Path, default=HERE.parent / "README.md")
    parser.add_argument("--results", type=Path, default=HERE / "results.json")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--bootstraps", type=int, default=Effort.methods)
    parser.add_argument("--stock-bootstraps", type=int, default=Effort.stock)
    parser.add_argument("--seeds", type=int, default=Effort.seeds)
    parser.add_argument("--ablation-bootstraps", type=int, default=Effort.ablations)
    parser.add_argument("--store-bootstraps", type=int, default=Effort.store)
    chosen = parser.parse_args(arguments)
    effort = Effort(
        methods=chosen.bootstraps,
        stock=chosen.stock_bootstraps,
        seeds=chosen.seeds,
        ablations=chosen.ablation_bootstraps,
        store=chosen.store_bootstraps,
    )
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    started = time.perf_counter()
    before = chosen.readme.read_text(encoding="utf-8")
    with_section(before, "")  # a README without the markers ends it before any work
    analysis = analyse(chosen.grids, chosen.tasks, effort, processes=chosen.processes)
    section = render(analysis, effort)
    chosen.readme.write_text(with_section(before, section), encoding="utf-8")
    stored = json.dumps(to_json(analysis), indent=1)
    chosen.results.write_text(stored + "\n", encoding="utf-8")
    print(f"{chosen.readme} and {chosen.results} in {time.perf_counter() - started:.0f} s")


def with_section(text: str, section: str) -> str:
    """A text with another section between the markers.

    Raises:
        GridError: if the text does not have each marker once, in order.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(END) < text.index(BEGIN):
        raise GridError(f"the README must have {BEGIN} and, further down, {END}, each once")
    head, _, rest = text.partition(BEGIN)
    tail = rest.partition(END)[2]
    return f"{head}{BEGIN}\n\n{section}\n{END}{tail}"


if __name__ == "__main__":
    main()
