"""The results as Markdown: a table of the minigrid's tasks and one of synthetic grids.

On the minigrid a replicate is all tasks with bootstrap number b. Its figures are means over the
tasks, and the interval holds the middle 95 % of the replicates, as in
`benchmarks.minigrid.tables`. On synthetic grids it is the 95 % interval of the mean over grids.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchmarks.minigrid.tables.bootstrap import Interval, percentile_interval
from benchmarks.minigrid.tables.markdown import number, prose, section, table
from benchmarks.rivals_search.methods import METHODS
from benchmarks.rivals_search.replays import SYNTHETIC, Key
from mordal_optuna.replay.metrics import interval_of_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.rivals_search.replays import Results

_DIGITS = {"cost": (2, 1.0), "tau": (3, 1.0), "tau_joint": (3, 1.0), "regret": (2, 100.0)}
FIGURES = tuple(_DIGITS)
_HEADER = (
    "method", "limit", "full runs", "weighted tau", "tau, ranked by our model", "regret, points",
)  # fmt: skip


def render(
    results: Results,
    tasks: Sequence[str],
    *,
    bootstraps: int,
    synthetic: int,
    seeds: int,
) -> str:
    """Both tables with their explanations.

    Args:
        results: all results.
        tasks: names of the minigrid's tasks.
        bootstraps: number of bootstraps, 0 for none.
        synthetic: number of synthetic grids.
        seeds: number of seeds on the full data.
    """
    rows = sorted({(key.method, key.full_runs) for key in results}, key=_place)
    blocks = ["# Rivals of the joint search", prose(_EXPLAINED), *_list(rows)]
    if bootstraps:
        title = f"Minigrid: {len(tasks)} tasks, {bootstraps} bootstraps"
        shown = [_minigrid_row(results, tasks, row, bootstraps, seeds) for row in rows]
        header = (*_HEADER, "tau, full data", "regret, full data")
        blocks.append(section(title, prose(_MINIGRID), table(header, shown)))
    if synthetic:
        title = f"{synthetic} synthetic grids of 7 x 7"
        own = [row for row in rows if Key(SYNTHETIC, 0, *row) in results]
        shown = [_synthetic_row(results, row, synthetic) for row in own]
        blocks.append(section(title, prose(_SYNTHETIC), table(_HEADER, shown)))
    return "\n\n".join(blocks) + "\n"


_EXPLAINED = (
    "Written by `python -m benchmarks.rivals_search`. Every method searches the same grids with "
    "the same documents and seeds. Costs are in full runs (the mean cost of training one pair "
    "fully and scoring it) and include features, comparisons of models and every scoring. A "
    "limit is what a method may spend; our methods end with the job that crosses it, the rivals "
    "begin a job only if its expected cost fits. `tau, ranked by our model` takes the scores that "
    "the method measured and ranks the pool by the package's model of all scores, where the "
    "method has a ranking of its own."
)
_MINIGRID = (
    "Means over tasks; first the mean over bootstraps, in brackets the middle 95 % of them. Each "
    "bootstrap is judged by its own truth for tau and by the scores of the full data for regret. "
    "The last two columns are means over the full data itself and over seeds."
)
_SYNTHETIC = "Means over grids with their 95 % intervals."


def _list(rows: Sequence[tuple[str, float]]) -> list[str]:
    names = list(dict.fromkeys(name for name, _ in rows))
    return ["\n".join(f"* `{name}`: {METHODS[name].summary}." for name in names)]


def _place(row: tuple[str, float]) -> tuple[float, int]:
    """Rows by limit, those without one last; then in the order of the methods."""
    name, limit = row
    return (limit or np.inf, list(METHODS).index(name))


def _minigrid_row(
    results: Results, tasks: Sequence[str], row: tuple[str, float], bootstraps: int, seeds: int
) -> list[str]:
    name, limit = row
    cells = [f"`{name}`", number(limit, 1) if limit else "none"]
    for figure in FIGURES:
        means = [over_tasks(results, tasks, name, limit, b, figure) for b in range(bootstraps)]
        cells.append(_cell(percentile_interval(float(np.mean(means)), means), figure))
    for figure in ("tau", "regret"):
        full = [over_tasks(results, tasks, name, limit, -1 - s, figure) for s in range(seeds)]
        digits, factor = _DIGITS[figure]
        cells.append(number(factor * float(np.mean(full)), digits))
    return cells


def over_tasks(
    results: Results, tasks: Sequence[str], method: str, limit: float, replicate: int, figure: str
) -> float:
    """Mean of a figure over the tasks on one bootstrap, or on the full data."""
    keys = [Key(task, replicate, method, limit) for task in tasks]
    return float(np.mean([results[key][figure] for key in keys]))


def _synthetic_row(results: Results, row: tuple[str, float], count: int) -> list[str]:
    name, limit = row
    cells = [f"`{name}`", number(limit, 1) if limit else "none"]
    for figure in FIGURES:
        values = [results[Key(SYNTHETIC, n, name, limit)][figure] for n in range(count)]
        mean, half = interval_of_mean(values)
        digits, factor = _DIGITS[figure]
        cells.append(f"{number(factor * mean, digits)} ±{number(factor * half, digits)}")
    return cells


def _cell(interval: Interval, figure: str) -> str:
    digits, factor = _DIGITS[figure]
    mean, low, high = (
        number(factor * v, digits) for v in (interval.mean, interval.low, interval.high)
    )
    return f"{mean} ({low} to {high})"
