"""Everything that the tables show, computed from the committed files by several processes."""

from __future__ import annotations

import math
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna

from benchmarks.minigrid.tables import one_store
from benchmarks.minigrid.tables.ablations import run_ablations
from benchmarks.minigrid.tables.bootstrap import (
    Interval,
    Resampler,
    centred_interval,
    percentile_interval,
)
from benchmarks.minigrid.tables.coverage import Coverage, coverage
from benchmarks.minigrid.tables.curves import CurveFigures, compare_rules, compare_schedules
from benchmarks.minigrid.tables.data import TaskData, read_task, read_tasks
from benchmarks.minigrid.tables.methods import (
    FIGURES,
    PARTS,
    MethodResult,
    as_interval,
    light_replay,
    run_methods,
    share_interval,
)
from benchmarks.minigrid.tables.postmortem import PostMortem, post_mortem
from benchmarks.minigrid.tables.ties import Ties, ties
from benchmarks.minigrid.tables.truth import SilverBullet, Truth, describe, silver_bullet

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# Plans whose seven searches are billed together.
SHARING = ("mordal", "mordal-faithful", "all-at-ratio", "cross")
MEAN = "mean"
# What a bill lists, see `one_store.Bill`.
BILLED = ("store", "separate", "grid", "grids")


@dataclass(frozen=True)
class Effort:
    """How many bootstraps and seeds.

    Attributes:
        methods: of plans and rivals, and for the noise of the truth.
        stock: of stock Optuna, which needs a study for each.
        seeds: of the random methods on the full data.
        ablations: of each variant, and of how often intervals hold the truth.
        store: of the shared store.
    """

    methods: int = 200
    stock: int = 10
    seeds: int = 3
    ablations: int = 20
    store: int = 50


@dataclass(frozen=True)
class Shared:
    """All tasks from one store.

    Attributes:
        measured: intervals of the bill's figures, by name.
        projected: the same, projected.
    """

    measured: Mapping[str, Interval]
    projected: Mapping[str, Interval]


@dataclass(frozen=True)
class Analysis:
    """Everything.

    Attributes:
        truths: by task.
        bullet: whether one pair will do.
        methods: by task, then method.
        ablations: by task, then variant.
        rules: by task, then rule and ratio.
        schedules: by task, then schedule; empty where none were run.
        intervals: by task, then variant and kind of estimate.
        ties: by task.
        shared: by method.
        deaths: post-mortems by task.
    """

    truths: Mapping[str, Truth]
    bullet: SilverBullet
    methods: Mapping[str, Mapping[str, MethodResult]]
    ablations: Mapping[str, Mapping[str, MethodResult]]
    rules: Mapping[str, Mapping[str, Mapping[str, CurveFigures]]]
    schedules: Mapping[str, Mapping[str, CurveFigures]]
    intervals: Mapping[str, Mapping[str, Mapping[str, Coverage]]]
    ties: Mapping[str, Ties]
    shared: Mapping[str, Shared]
    deaths: Mapping[str, PostMortem]


def analyse(folder: Path, tasks: Sequence[str], effort: Effort, *, processes: int = 2) -> Analysis:
    """Compute everything.

    Args:
        folder: of the grid files.
        tasks: names.
        effort: bootstraps.
        processes: to share the work among.

    Raises:
        GridError: if a file is missing or wrong.
    """
    data = read_tasks(folder, tuple(tasks))  # a wrong file ends it before any work
    with ProcessPoolExecutor(processes, initializer=_quiet) as pool:
        # the longest first
        methods = pool.map(partial(_methods, folder, effort=effort), tasks)
        ablations = pool.map(partial(_ablations, folder, effort=effort), tasks)
        bills = pool.map(partial(_store, folder, tuple(tasks), effort=effort), SHARING)
        small = pool.map(partial(_small, folder, effort=effort), tasks)
        truths, rules, schedules, intervals, tied, deaths = zip(*small, strict=True)
        return Analysis(
            truths=dict(zip(tasks, truths, strict=True)),
            bullet=silver_bullet(data, replicates=effort.methods),
            methods=dict(zip(tasks, methods, strict=True)),
            ablations=dict(zip(tasks, ablations, strict=True)),
            rules=dict(zip(tasks, rules, strict=True)),
            schedules=dict(zip(tasks, schedules, strict=True)),
            intervals=dict(zip(tasks, intervals, strict=True)),
            ties=dict(zip(tasks, tied, strict=True)),
            shared=dict(zip(SHARING, bills, strict=True)),
            deaths=dict(zip(tasks, deaths, strict=True)),
        )


def over_tasks(
    results: Mapping[str, Mapping[str, MethodResult]], name: str, figure: str
) -> Interval | None:
    """Mean of a figure over tasks, its interval over replicates of all tasks at once.

    Replicate number b has the same seeds on every task. The tasks are taken as they are.
    """
    rows = [own[name] for own in results.values()]
    if any(row.figures[figure] is None for row in rows):
        return None
    columns = [_column(row, figure) for row in rows]
    if figure == "rejected":
        return share_of_all([share_interval(column[1:]) for column in columns])
    value, *means = np.mean(columns, axis=0).tolist()
    return as_interval(figure, value, means)


def _column(row: MethodResult, figure: str) -> list[float]:
    """A figure that applies: on the full data, then on each replicate."""
    found = [own[figure] for own in (row.figures, *row.replicates)]
    return [value for value in found if value is not None]


def common(results: Mapping[str, Mapping[str, MethodResult]]) -> list[str]:
    """Names that every task has, in the first one's order."""
    first, *others = results.values()
    return [name for name in first if all(name in own for own in others)]


def share_of_all(shares: Sequence[Interval]) -> Interval:
    """Mean of the tasks' shares, its interval from the errors of their replicates, in squares."""
    mean = sum(s.value for s in shares) / len(shares)
    half = sum(((s.high - s.low) / 2) ** 2 for s in shares) ** 0.5 / len(shares)
    return Interval(mean, mean, max(0.0, mean - half), min(1.0, mean + half))


def against_default(
    results: Mapping[str, Mapping[str, MethodResult]], name: str, figure: str
) -> Interval:
    """A variant less the default, mean over tasks, paired on each replicate."""
    changed, default = (
        np.array([_column(own[key], figure) for own in results.values()])
        for key in (name, "default")
    )
    value, *means = (changed - default).mean(axis=0).tolist()
    return centred_interval(value, means, least=-math.inf, most=math.inf)


def to_json(analysis: Analysis) -> dict[str, Any]:
    """`results.json`: task, then method, then figures with intervals; then the mean over tasks."""
    names = common(analysis.methods)
    by_task = {
        task: {name: _method_json(row.interval) for name, row in own.items()}
        for task, own in analysis.methods.items()
    }
    mean = {name: _method_json(partial(over_tasks, analysis.methods, name)) for name in names}
    return {**by_task, MEAN: mean, "ties": {t: asdict(own) for t, own in analysis.ties.items()}}


def _method_json(interval: Any) -> dict[str, Any]:
    plain = {figure: _plain(interval(figure)) for figure in FIGURES}
    parts = {part: _plain(interval(f"cost_{part}")) for part in PARTS}
    return {**plain, "cost": {**parts, "total": _plain(interval("cost"))}}


def _plain(interval: Interval | None) -> dict[str, float] | None:
    if interval is None:
        return None
    return {key: round(value, 5) for key, value in vars(interval).items()}


def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def _methods(folder: Path, task: str, *, effort: Effort) -> dict[str, MethodResult]:
    data = read_task(folder, task)
    return run_methods(
        data,
        replicates=effort.methods,
        stock_replicates=effort.stock,
        seeds=effort.seeds,
    )


def _ablations(folder: Path, task: str, *, effort: Effort) -> dict[str, MethodResult]:
    return run_ablations(read_task(folder, task), replicates=effort.ablations)


def _small(folder: Path, task: str, *, effort: Effort) -> tuple[Any, ...]:
    data = read_task(folder, task)
    return (
        describe(data, replicates=effort.methods),
        compare_rules(data),
        compare_schedules(data),
        coverage(data, replicates=effort.ablations),
        ties(data, replicates=effort.methods),
        post_mortem(data, replicates=effort.methods),
    )


def _store(folder: Path, tasks: tuple[str, ...], method: str, *, effort: Effort) -> Shared:
    data: tuple[TaskData, ...] = read_tasks(folder, tasks)
    resamplers = [Resampler(own) for own in data]
    warmed = [one_store.warmed(own, method) for own in data]
    bills: dict[str, list[one_store.Bill]] = {"measured": [], "projected": []}
    for number in range(-1, effort.store):
        grids = [
            own.grid if number < 0 else resampler.grid(number)
            for own, resampler in zip(data, resamplers, strict=True)
        ]
        runs = [light_replay(grid, method, draws=1) for grid in grids]
        bills["measured"].append(one_store.measured(grids, runs, warmed))
        bills["projected"].append(one_store.projected(grids, runs, warmed))
    return Shared(_bill(bills["measured"]), _bill(bills["projected"]))


def _bill(bills: Sequence[one_store.Bill]) -> dict[str, Interval]:
    gains = ("gain_over_grid", "gain_over_separate", "separate_over_grid")
    return {
        name: percentile_interval(
            getattr(bills[0], name), [getattr(bill, name) for bill in bills[1:]]
        )
        for name in (*BILLED, *gains)
    }
