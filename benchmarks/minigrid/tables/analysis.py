"""All figures of the tables, computed from the committed grid files by several processes."""

from __future__ import annotations

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
    percentile_interval,
)
from benchmarks.minigrid.tables.ceilings import run_ceilings
from benchmarks.minigrid.tables.coverage import Coverage, coverage
from benchmarks.minigrid.tables.curves import CurveFigures, compare_rules, compare_schedules
from benchmarks.minigrid.tables.data import TaskData, read_task, read_tasks
from benchmarks.minigrid.tables.methods import (
    FIGURES,
    JOINT_ROWS,
    PARTS,
    MethodResult,
    as_interval,
    light_replay,
    run_methods,
    share_interval,
)
from benchmarks.minigrid.tables.postmortem import PostMortem, post_mortem
from benchmarks.minigrid.tables.ties import Ties, ties
from benchmarks.minigrid.tables.truth import (
    PairTruth,
    SilverBullet,
    Truth,
    describe,
    silver_bullet,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# Methods for which the cost of all tasks together is computed.
SHARING = ("mordal", "mordal-faithful", "all-at-ratio", "cross")
# Methods whose groups are looked at, with their budgets in full runs.
TIED = {"mordal": None, "joint": JOINT_ROWS["joint"]}
MEAN = "mean"
# Fields of `one_store.Bill`.
BILLED = ("store", "separate", "grid", "grids")


@dataclass(frozen=True)
class Effort:
    """Numbers of bootstraps and seeds.

    Attributes:
        methods: bootstraps of plans and rivals, and of the noise of the truth.
        stock: bootstraps of stock Optuna, each of which needs a study.
        seeds: seeds of methods with random choices, on the full data.
        ablations: bootstraps of each variant, and of the coverage of intervals.
        store: bootstraps of the shared store.
        ties: bootstraps of the groups and winners.
    """

    methods: int = 200
    stock: int = 10
    seeds: int = 3
    ablations: int = 20
    store: int = 50
    ties: int = 50


@dataclass(frozen=True)
class Shared:
    """Cost of all tasks together.

    Attributes:
        measured: intervals of the bill's figures, by name.
        projected: intervals of the figures projected to 7B, by name.
    """

    measured: Mapping[str, Interval]
    projected: Mapping[str, Interval]


@dataclass(frozen=True)
class Analysis:
    """All figures.

    Attributes:
        truths: figures of the truth, by task.
        bullet: whether one pair suits all tasks.
        methods: results by task and method, the ceilings first.
        ablations: results by task and variant, the ceilings first.
        rules: errors of predictions by task, rule and ratio.
        schedules: errors of predictions by task and schedule; empty where none were run.
        intervals: coverage by task, source and kind of estimate.
        ties: figures of groups and winners, by task and method.
        shared: costs of all tasks together, by method.
        post_mortems: decisions that lost the best pair, by task.
    """

    truths: Mapping[str, Truth]
    bullet: SilverBullet
    methods: Mapping[str, Mapping[str, MethodResult]]
    ablations: Mapping[str, Mapping[str, MethodResult]]
    rules: Mapping[str, Mapping[str, Mapping[str, CurveFigures]]]
    schedules: Mapping[str, Mapping[str, CurveFigures]]
    intervals: Mapping[str, Mapping[str, Mapping[str, Coverage]]]
    ties: Mapping[str, Mapping[str, Ties]]
    shared: Mapping[str, Shared]
    post_mortems: Mapping[str, PostMortem]


def analyse(folder: Path, tasks: Sequence[str], effort: Effort, *, processes: int = 2) -> Analysis:
    """Compute all figures.

    Args:
        folder: folder of the grid files.
        tasks: names of the tasks.
        effort: numbers of bootstraps and seeds.
        processes: number of processes.

    Raises:
        GridError: if a file is missing or invalid.
    """
    data = read_tasks(folder, tuple(tasks))  # finds invalid files before any computation
    with ProcessPoolExecutor(processes, initializer=_quiet) as pool:
        # The longest computations first.
        methods = pool.map(partial(_methods, folder, effort=effort), tasks)
        ablations = pool.map(partial(_ablations, folder, effort=effort), tasks)
        bills = pool.map(partial(_store, folder, tuple(tasks), effort=effort), SHARING)
        small = pool.map(partial(_small, folder, effort=effort), tasks)
        truths, rules, schedules, intervals, tied, post_mortems = zip(*small, strict=True)
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
            post_mortems=dict(zip(tasks, post_mortems, strict=True)),
        )


def over_tasks(
    results: Mapping[str, Mapping[str, MethodResult]], name: str, figure: str
) -> Interval | None:
    """Mean of a figure over tasks, with an interval over replicates of all tasks together.

    Replicate number b has the same seeds on every task. The set of tasks is not resampled.

    Args:
        results: results by task and name.
        name: method or variant.
        figure: name of the figure.

    Returns:
        None where the figure does not apply.
    """
    rows = [by_name[name] for by_name in results.values()]
    columns = [_column(row, figure) for row in rows]
    if not all(columns):
        return None
    if figure == "rejected":
        return share_of_all([share_interval(column) for column in columns])
    return as_interval(figure, _full(rows, figure), np.mean(columns, axis=0).tolist())


def _column(row: MethodResult, figure: str) -> list[float]:
    """Values of a figure on each replicate, without missing ones."""
    values = [figures[figure] for figures in row.replicates]
    return [value for value in values if value is not None]


def _full(rows: Sequence[MethodResult], figure: str) -> float | None:
    """Mean over tasks of a figure on the full data; None if a task has none."""
    values = [value for row in rows if (value := row.figures[figure]) is not None]
    return float(np.mean(values)) if len(values) == len(rows) else None


def common(results: Mapping[str, Mapping[str, MethodResult]]) -> list[str]:
    """Names that all tasks have, in the order of the first task."""
    first, *others = results.values()
    return [name for name in first if all(name in by_name for by_name in others)]


def share_of_all(shares: Sequence[Interval]) -> Interval:
    """Mean of shares, with an interval that combines the half widths in quadrature."""
    mean = sum(s.mean for s in shares) / len(shares)
    half = sum(((s.high - s.low) / 2) ** 2 for s in shares) ** 0.5 / len(shares)
    return Interval(mean, mean, max(0.0, mean - half), min(1.0, mean + half))


def against_default(
    results: Mapping[str, Mapping[str, MethodResult]], name: str, figure: str
) -> Interval:
    """Difference of a variant and the default, mean over tasks, paired by replicate.

    Args:
        results: results by task and variant.
        name: variant.
        figure: name of the figure.
    """
    rows = [[by_name[key] for by_name in results.values()] for key in (name, "default")]
    changed, default = (np.array([_column(row, figure) for row in of]) for of in rows)
    own, before = (_full(of, figure) for of in rows)
    value = None if own is None or before is None else own - before
    return percentile_interval(value, (changed - default).mean(axis=0))


def to_json(analysis: Analysis) -> dict[str, Any]:
    """Content of `results.json`: figures with intervals by task and method, and their means."""
    names = common(analysis.methods)
    by_task = {
        task: {name: _method_json(row.interval) for name, row in methods.items()}
        for task, methods in analysis.methods.items()
    }
    mean = {name: _method_json(partial(over_tasks, analysis.methods, name)) for name in names}
    return {
        **by_task,
        MEAN: mean,
        "ties": {
            task: {method: asdict(found) for method, found in by_method.items()}
            for task, by_method in analysis.ties.items()
        },
        "truth": {
            task: {name: _pair_json(pair) for name, pair in truth.pairs.items()}
            for task, truth in analysis.truths.items()
        },
        "agreement": {task: asdict(t.agreement) for task, t in analysis.truths.items()},
    }


def _pair_json(pair: PairTruth) -> dict[str, float]:
    return {key: round(value, 5) for key, value in {**asdict(pair), "noise": pair.noise}.items()}


def _method_json(interval: Any) -> dict[str, Any]:
    plain = {figure: _plain(interval(figure)) for figure in FIGURES}
    parts = {part: _plain(interval(f"cost_{part}")) for part in PARTS}
    return {**plain, "cost": {**parts, "total": _plain(interval("cost"))}}


def _plain(interval: Interval | None) -> dict[str, float | None] | None:
    if interval is None:
        return None
    return {k: None if v is None else round(v, 5) for k, v in vars(interval).items()}


def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def _methods(folder: Path, task: str, *, effort: Effort) -> dict[str, MethodResult]:
    data = read_task(folder, task)
    ceilings = run_ceilings(data, replicates=effort.methods)
    return ceilings | run_methods(
        data,
        replicates=effort.methods,
        stock_replicates=effort.stock,
        seeds=effort.seeds,
    )


def _ablations(folder: Path, task: str, *, effort: Effort) -> dict[str, MethodResult]:
    data, count = read_task(folder, task), effort.ablations
    return run_ceilings(data, replicates=count) | run_ablations(data, replicates=count)


def _small(folder: Path, task: str, *, effort: Effort) -> tuple[Any, ...]:
    data = read_task(folder, task)
    return (
        describe(data, replicates=effort.methods),
        compare_rules(data),
        compare_schedules(data),
        coverage(data, replicates=effort.ablations),
        {
            method: ties(data, replicates=effort.ties, method=method, budget=budget)
            for method, budget in TIED.items()
        },
        post_mortem(data, replicates=effort.methods),
    )


def _store(folder: Path, tasks: tuple[str, ...], method: str, *, effort: Effort) -> Shared:
    data: tuple[TaskData, ...] = read_tasks(folder, tasks)
    resamplers = [Resampler(task) for task in data]
    warmed = [one_store.warmed(task, method) for task in data]
    bills: dict[str, list[one_store.Bill]] = {"measured": [], "projected": []}
    for number in range(-1, effort.store):
        grids = [
            task.grid if number < 0 else resampler.grid(number)
            for task, resampler in zip(data, resamplers, strict=True)
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
