"""The results as Markdown: tables of the methods and, if they were run, of ablations of `joint`.

On the minigrid a replicate is all tasks with bootstrap number b. Its figures are means over the
tasks, and the interval holds the middle 95 % of the replicates, as in
`benchmarks.minigrid.tables`. On synthetic grids it is the 95 % interval of the mean over grids.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.minigrid.tables.bootstrap import percentile_interval
from benchmarks.minigrid.tables.markdown import number, prose, section, table
from benchmarks.rivals_search.ablations import ABLATIONS, ALL, UNCHANGED
from benchmarks.rivals_search.methods import METHODS
from benchmarks.rivals_search.replays import LARGE, SYNTHETIC, Key
from mordal_optuna.replay.metrics import interval_of_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.rivals_search.replays import Results

_DIGITS = {"cost": (2, 1.0), "tau": (3, 1.0), "tau_joint": (3, 1.0), "regret": (2, 100.0)}
FIGURES = tuple(_DIGITS)
# A method and its limit in full runs, 0 for none.
Row = tuple[str, float]
_OF_METHODS = (
    "method", "limit", "full runs", "weighted tau", "tau, ranked by our model", "regret, points",
)  # fmt: skip
_FULL_DATA = ("tau, full data", "regret, full data")
_OF_ABLATIONS = (
    "row", "limit", "full runs", "weighted tau", f"more than `{UNCHANGED}`", "regret, points",
    f"more than `{UNCHANGED}`",
)  # fmt: skip

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
    "bootstrap is judged by its own truth for tau and by the truth of the full data for regret; "
    "a pair's truth is the mean over its random seeds."
)
_SYNTHETIC = "Means over grids with their 95 % intervals."
_ABLATED = (
    f"Each row is `joint` with one thing changed, for its choices and for its ranking; "
    f"`{UNCHANGED}` is the package's `joint`. Differences from it are taken on the same bootstrap "
    "or grid, so that their intervals leave out what all rows share."
)


@dataclass(frozen=True)
class Minigrid:
    """The replicates of the minigrid.

    Attributes:
        results: all results.
        tasks: names of the tasks.
        bootstraps: number of bootstraps, at least 1.
    """

    results: Results
    tasks: Sequence[str]
    bootstraps: int

    def __contains__(self, row: Row) -> bool:
        numbers = range(self.bootstraps)
        return all(Key(t, b, *row) in self.results for t in self.tasks for b in numbers)

    def values(self, row: Row, figure: str) -> np.ndarray:
        """A figure on every replicate."""
        return np.array([self.over_tasks(row, b, figure) for b in range(self.bootstraps)])

    def over_tasks(self, row: Row, replicate: int, figure: str) -> float:
        """Mean of a figure over the tasks on one bootstrap, or on the full data."""
        keys = [Key(task, replicate, *row) for task in self.tasks]
        return float(np.mean([self.results[key][figure] for key in keys]))

    def cell(self, values: np.ndarray, figure: str) -> str:
        """Mean and interval."""
        found = percentile_interval(float(values.mean()), values)
        mean, low, high = (_shown(v, figure) for v in (found.mean, found.low, found.high))
        return f"{mean} ({low} to {high})"


@dataclass(frozen=True)
class Synthetic:
    """Synthetic grids of one size.

    Attributes:
        results: all results.
        source: `SYNTHETIC` or `LARGE`.
        grids: number of grids, at least 1.
    """

    results: Results
    source: str
    grids: int

    def __contains__(self, row: Row) -> bool:
        return all(Key(self.source, n, *row) in self.results for n in range(self.grids))

    def values(self, row: Row, figure: str) -> np.ndarray:
        """A figure on every grid."""
        keys = [Key(self.source, n, *row) for n in range(self.grids)]
        return np.array([self.results[key][figure] for key in keys])

    def cell(self, values: np.ndarray, figure: str) -> str:
        """Mean and half of its interval."""
        mean, half = interval_of_mean(values.tolist())
        return f"{_shown(mean, figure)} ±{_shown(half, figure)}"


def render(
    results: Results,
    tasks: Sequence[str],
    *,
    bootstraps: int,
    synthetic: int,
    seeds: int,
    large: int = 0,
) -> str:
    """All tables with their explanations.

    Args:
        results: all results.
        tasks: names of the minigrid's tasks.
        bootstraps: number of bootstraps, 0 for none.
        synthetic: number of synthetic grids of 7 x 7.
        seeds: number of seeds on the full data.
        large: number of synthetic grids of 16 x 16.
    """
    rows = sorted({(key.method, key.full_runs) for key in results}, key=_place)
    methods = [row for row in rows if row[0] in METHODS]
    changed = [row for row in rows if row[0] in ABLATIONS]
    minigrid = Minigrid(results, tasks, bootstraps) if bootstraps else None
    grids = [Synthetic(results, SYNTHETIC, synthetic), Synthetic(results, LARGE, large)]
    grids = [source for source in grids if source.grids]
    blocks = ["# Rivals of the joint search", prose(_EXPLAINED)]
    if methods:
        blocks.append(_list(methods))
        if minigrid:
            blocks.append(_of_methods_on_minigrid(minigrid, methods, seeds))
        blocks += [_of_methods(source, methods) for source in grids]
    if changed:
        blocks += ["# Ablations of `joint`", prose(_ABLATED), _list(changed)]
        sources = ([minigrid] if minigrid else []) + [*grids]
        blocks += [text for source in sources if (text := _of_ablations(source, changed))]
    return "\n\n".join(blocks) + "\n"


def _list(rows: Iterable[Row]) -> str:
    names = dict.fromkeys(name for name, _ in rows)
    return "\n".join(f"* `{name}`: {ALL[name].summary}." for name in names)


def _place(row: Row) -> tuple[float, int]:
    """Rows by limit, those without one last; then in the order of the methods."""
    name, limit = row
    return (limit or np.inf, list(ALL).index(name))


def _of_methods_on_minigrid(source: Minigrid, rows: Sequence[Row], seeds: int) -> str:
    note = f"{_MINIGRID} The last two columns are means over the full data and over seeds."
    header = (*_OF_METHODS, *(_FULL_DATA if seeds else ()))
    shown = [
        [*_name(row), *_cells(source, row), *(_on_full_data(source, row, seeds) if seeds else ())]
        for row in rows
        if row in source
    ]
    text = prose(note if seeds else _MINIGRID)
    return section(_title(source), text, table(header, shown))


def _of_methods(source: Synthetic, rows: Sequence[Row]) -> str:
    shown = [[*_name(row), *_cells(source, row)] for row in rows if row in source]
    return section(_title(source), prose(_SYNTHETIC), table(_OF_METHODS, shown))


def _of_ablations(source: Minigrid | Synthetic, rows: Sequence[Row]) -> str | None:
    """A table of ablations; None if there are none on these grids."""
    shown = [_changes(source, row) for row in rows if row in source]
    note = prose(_MINIGRID if isinstance(source, Minigrid) else _SYNTHETIC)
    title = f"Ablations: {_title(source)}"
    return section(title, note, table(_OF_ABLATIONS, shown)) if shown else None


def _title(source: Minigrid | Synthetic) -> str:
    if isinstance(source, Minigrid):
        return f"Minigrid: {len(source.tasks)} tasks, {source.bootstraps} bootstraps"
    size = "16 x 16" if source.source == LARGE else "7 x 7"
    return f"{source.grids} synthetic grids of {size}"


def _name(row: Row) -> list[str]:
    name, limit = row
    return [f"`{name}`", number(limit, 1) if limit else "none"]


def _cells(source: Minigrid | Synthetic, row: Row) -> list[str]:
    return [source.cell(source.values(row, figure), figure) for figure in FIGURES]


def _on_full_data(source: Minigrid, row: Row, seeds: int) -> list[str]:
    means = [
        np.mean([source.over_tasks(row, -1 - s, figure) for s in range(seeds)])
        for figure in ("tau", "regret")
    ]
    return [_shown(float(m), f) for m, f in zip(means, ("tau", "regret"), strict=True)]


def _changes(source: Minigrid | Synthetic, row: Row) -> list[str]:
    """Cost, tau and regret, the latter two also as differences from the unchanged row."""
    cells = [*_name(row), source.cell(source.values(row, "cost"), "cost")]
    for figure in ("tau", "regret"):
        own = source.values(row, figure)
        cells.append(source.cell(own, figure))
        apart = own - source.values((UNCHANGED, row[1]), figure)
        cells.append("" if row[0] == UNCHANGED else source.cell(apart, figure))
    return cells


def _shown(value: float, figure: str) -> str:
    digits, factor = _DIGITS[figure]
    return number(factor * value, digits)
