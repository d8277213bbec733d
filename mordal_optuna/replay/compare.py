"""Compare several methods over grid files and seeds, in one table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from rich.table import Table

from mordal_optuna.errors import SearchError
from mordal_optuna.replay.metrics import interval_of_mean
from mordal_optuna.replay.run import replay

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console

    from mordal_optuna.replay.grid import Grid
    from mordal_optuna.replay.judging import Replay


@dataclass(frozen=True)
class Column:
    """One figure of a comparison.

    Attributes:
        key: name of the figure in JSON.
        title: title of the table's column.
        value: function that reads the figure from a replay; it gives None if it is not known.
        digits: number of decimals shown.
        meaning: what the figure says, as it is printed below the table.
    """

    key: str
    title: str
    value: Callable[[Replay], float | None]
    digits: int
    meaning: str


COLUMNS = (
    Column(
        "full_runs",
        "full runs",
        lambda r: r.full_runs,
        2,
        "device time of the search, in mean costs of training and scoring one pair fully",
    ),
    Column(
        "gain",
        "gain",
        lambda r: r.gain,
        1,
        "device time of the grid, every pair trained and scored fully, over that of the search",
    ),
    Column(
        "gain_projected",
        "projected",
        lambda r: r.gain_projected,
        1,
        "the same if each part of the search cost what it costs at 7B parameters",
    ),
    Column(
        "regret",
        "regret, points",
        lambda r: 100 * r.regret,
        2,
        "score of the best pair less that of the picked one, in percentage points",
    ),
    Column(
        "tau",
        "tau",
        lambda r: r.tau,
        3,
        "weighted Kendall's tau of the whole ranking with the true one, -1 to 1; the top weighs "
        "most",
    ),
    Column(
        "tau_random_ties",
        "random ties",
        lambda r: r.tau_random_ties,
        3,
        "the same with tied pairs in random order",
    ),
    Column(
        "tau_top10",
        "top 10",
        lambda r: r.tau_top10,
        3,
        "the same among the ten best pairs",
    ),
    Column(
        "best_rejected",
        "best rejected, %",
        lambda r: 100.0 * r.best_rejected,
        0,
        "replays that never measured the best pair at the method's last rung",
    ),
)
# Shown where several workers overlap.
ELAPSED = Column(
    "elapsed",
    "elapsed, s",
    lambda r: r.elapsed_seconds,
    0,
    "simulated seconds from the first trial to the last score; comparing the models comes before",
)


# Reliability of the answer: do the first two groups contain the best pair, how large is the first
# group, and are intervals and estimates right.
ANSWER_COLUMNS = (
    Column(
        "held",
        "best in two groups, %",
        lambda r: _percent(r.held),
        0,
        "replays whose groups `tied` and `open` contain a best pair",
    ),
    Column("tied", "first group", lambda r: r.tied, 1, "number of pairs in the group `tied`"),
    Column(
        "coverage",
        "intervals hold, %",
        lambda r: 100 * r.coverage,
        0,
        "pairs whose interval holds the true score",
    ),
    Column(
        "bias",
        "bias, points",
        lambda r: 100 * r.bias,
        1,
        "mean over all pairs of the estimate less the true score",
    ),
    Column(
        "winner_error",
        "winner off by",
        lambda r: 100 * r.winner_error,
        1,
        "estimate of the picked pair less its true score, in points",
    ),
)


@dataclass(frozen=True)
class Comparison:
    """Figures of one method over files and seeds.

    Attributes:
        method: name of the method.
        figures: mean and half the width of its 95 % interval, by column key; None if a replay
            lacks the figure, such as a cost.
        replays: number of replays behind the figures.
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

    With several grids, a method's figures are first averaged over the seeds of each grid, and the
    interval is that of the mean over grids, since seeds on one grid are not independent. With one
    grid the interval is over seeds; it has width 0 for deterministic methods.

    Args:
        grids: grid files.
        methods: names of methods, see `mordal_optuna.replay.run.METHODS`.
        seeds: number of seeds, at least 1: 0 to `seeds` - 1.
        workers: number of workers on the simulated clock, at least 1.
        budget: budget of every method in full runs; by default as in `replay`.
        advance: function that is called with 1 after each replay.

    Raises:
        SearchError: if there is no seed.
        MordalError: if a replay fails, see `replay`.
    """
    if seeds < 1:
        raise SearchError(f"seeds: got {seeds}; it must be at least 1")
    comparisons = []
    for method in methods:
        by_grid = []
        for grid in grids:
            runs = []
            for seed in range(seeds):
                runs.append(replay(grid, method, seed=seed, workers=workers, budget=budget))
                advance(1)
            by_grid.append(runs)
        comparisons.append(summary(method, by_grid))
    return tuple(comparisons)


def summary(method: str, by_grid: Sequence[Sequence[Replay]]) -> Comparison:
    """Mean and interval of every column.

    Args:
        method: name of the method.
        by_grid: replays of each grid; with one grid the interval is over its replays.
    """
    figures: dict[str, tuple[float, float] | None] = {}
    for column in (*COLUMNS, ELAPSED, *ANSWER_COLUMNS):
        columns = [[column.value(run) for run in runs] for runs in by_grid]
        values = [[value for value in row if value is not None] for row in columns]
        if values != columns:
            figures[column.key] = None
            continue
        means = [float(np.mean(row)) for row in values]
        figures[column.key] = interval_of_mean(means if len(means) > 1 else values[0])
    return Comparison(method, figures, sum(len(runs) for runs in by_grid))


def print_comparison(
    comparisons: Sequence[Comparison], console: Console, *, title: str, workers: int = 1
) -> None:
    """Print two tables with a row for each method: results and costs, then reliability.

    Args:
        comparisons: figures of each method.
        console: console to print to.
        title: title of the first table.
        workers: number of simulated workers; the elapsed time is shown for several.
    """
    first = (COLUMNS[0], ELAPSED, *COLUMNS[1:]) if workers > 1 else COLUMNS
    titles = (title, "reliability of the answer")
    for columns, name in zip((first, ANSWER_COLUMNS), titles, strict=True):
        table = Table(title=name, title_justify="left", box=None, pad_edge=False)
        table.add_column("method")
        for column in columns:
            table.add_column(column.title, justify="right")
        for row in comparisons:
            table.add_row(row.method, *(_cell(row, column) for column in columns))
        console.print(table)
    console.print(_meanings((*first, *ANSWER_COLUMNS)))


def _meanings(columns: Sequence[Column]) -> Table:
    table = Table(title="columns", title_justify="left", box=None, show_header=False)
    for column in columns:
        table.add_row(column.title, column.meaning)
    table.add_row("±", "half the width of the mean's 95 % interval")
    return table


def _percent(held: bool | None) -> float | None:  # noqa: FBT001 - one figure of a replay
    return None if held is None else 100.0 * held


def _cell(row: Comparison, column: Column) -> str:
    figure = row.figures[column.key]
    if figure is None:
        return "not known"
    mean, half = figure
    text = f"{mean:.{column.digits}f}"
    return f"{text} ±{half:.{column.digits}f}" if half else text
