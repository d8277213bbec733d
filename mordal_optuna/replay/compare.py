"""Several methods on several grid files and seeds, as one table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from rich.table import Table

from mordal_optuna.replay.metrics import interval_of_mean
from mordal_optuna.replay.run import replay

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console

    from mordal_optuna.replay.grid import Grid
    from mordal_optuna.replay.run import Replay


@dataclass(frozen=True)
class Column:
    """One figure of a comparison.

    Attributes:
        key: its name in JSON.
        title: of the table's column.
        value: how it is read from a replay; None where it is not known.
        digits: decimals shown.
    """

    key: str
    title: str
    value: Callable[[Replay], float | None]
    digits: int


COLUMNS = (
    Column("full_runs", "full runs", lambda r: r.full_runs, 2),
    Column("gain", "gain", lambda r: r.gain, 1),
    Column("gain_projected", "projected", lambda r: r.gain_projected, 1),
    Column("regret", "regret, points", lambda r: 100 * r.regret, 2),
    Column("tau", "tau", lambda r: r.tau, 3),
    Column("tau_random_ties", "random ties", lambda r: r.tau_random_ties, 3),
    Column("tau_top10", "top 10", lambda r: r.tau_top10, 3),
    Column("best_rejected", "best rejected, %", lambda r: 100.0 * r.best_rejected, 0),
)


# What is said of the answer: whether the groups that people are shown hold the best pair, how
# large the first is, and whether intervals and estimates are right.
ANSWER_COLUMNS = (
    Column("held", "best in two groups, %", lambda r: _percent(r.held), 0),
    Column("tied", "first group", lambda r: r.tied, 1),
    Column("coverage", "intervals hold, %", lambda r: 100 * r.coverage, 0),
    Column("bias", "bias, points", lambda r: 100 * r.bias, 1),
    Column("winner_error", "winner off by", lambda r: 100 * r.winner_error, 1),
)


@dataclass(frozen=True)
class Comparison:
    """One method's figures over files and seeds.

    Attributes:
        method: its name.
        figures: mean and half the width of its 95 % interval, by column key; None where a
            replay does not know it, such as a cost.
        replays: how many replays are behind them.
    """

    method: str
    figures: dict[str, tuple[float, float] | None]
    replays: int


def compare(
    grids: Sequence[Grid],
    methods: Sequence[str],
    *,
    seeds: int = 10,
    workers: int = 1,
    budget: float | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> tuple[Comparison, ...]:
    """Replay every method on every grid with every seed.

    Several grids: a method's seeds are averaged inside each grid first and the interval is that
    of the mean over grids, since seeds on the same grid are no independent evidence. One grid:
    the interval is over seeds, and 0 wide for a method in which nothing is random.

    Args:
        grids: the truths.
        methods: names, see `mordal_optuna.replay.run.METHODS`.
        seeds: 0 to seeds - 1.
        workers: on the simulated clock.
        budget: full runs for every method; by default as in `replay`.
        advance: is told of each replay that is done.

    Raises:
        MordalError: as `replay`.
    """
    found = []
    for method in methods:
        by_grid = []
        for grid in grids:
            runs = []
            for seed in range(seeds):
                runs.append(replay(grid, method, seed=seed, workers=workers, budget=budget))
                advance(1)
            by_grid.append(runs)
        found.append(summary(method, by_grid))
    return tuple(found)


def summary(method: str, by_grid: Sequence[Sequence[Replay]]) -> Comparison:
    """Mean and interval of every column, over grids, or over seeds where there is one grid."""
    figures: dict[str, tuple[float, float] | None] = {}
    for column in (*COLUMNS, *ANSWER_COLUMNS):
        found = [[column.value(run) for run in runs] for runs in by_grid]
        values = [[value for value in own if value is not None] for own in found]
        if values != found:
            figures[column.key] = None
            continue
        means = [float(np.mean(own)) for own in values]
        figures[column.key] = interval_of_mean(means if len(means) > 1 else values[0])
    return Comparison(method, figures, sum(len(runs) for runs in by_grid))


def print_comparison(comparisons: Sequence[Comparison], console: Console, *, title: str) -> None:
    """Two tables, one row a method: what it finds at what cost, and what it says of that."""
    titles = (title, "what is said of the answer")
    for columns, name in zip((COLUMNS, ANSWER_COLUMNS), titles, strict=True):
        table = Table(title=name, title_justify="left", box=None, pad_edge=False)
        table.add_column("method")
        for column in columns:
            table.add_column(column.title, justify="right")
        for row in comparisons:
            table.add_row(row.method, *(_cell(row, column) for column in columns))
        console.print(table)


def _percent(held: bool | None) -> float | None:  # noqa: FBT001 - one figure of a replay
    return None if held is None else 100.0 * held


def _cell(row: Comparison, column: Column) -> str:
    figure = row.figures[column.key]
    if figure is None:
        return "not known"
    mean, half = figure
    text = f"{mean:.{column.digits}f}"
    return f"{text} ±{half:.{column.digits}f}" if half else text
