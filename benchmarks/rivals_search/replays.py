"""Replaying every method on every grid, with results in a file that a later run continues.

Grids of tasks are the minigrid's full data and its bootstraps (`benchmarks.minigrid.tables`): the
same documents and seeds for every method. Numbers from 0 are bootstraps; negative ones are the
full data, searched with seed 0 at -1, seed 1 at -2 and so on. What a search sees is one run of
every pair, and it is judged by the mean over the pair's runs, as there. Synthetic grids are
numbered by seed; their one run is the truth.

The other tasks that `oboe-tasks` learns from are further bootstraps, so that their redrawn
documents and seeds are not those of the task that is searched; the runs underneath are the same.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from benchmarks.minigrid.tables.bootstrap import Replicate, Resampler, full_data
from benchmarks.minigrid.tables.data import read_tasks
from benchmarks.minigrid.tables.methods import figures
from benchmarks.rivals_search.ablations import ALL
from benchmarks.rivals_search.problem import Problem
from mordal_optuna.replay.judging import judge
from mordal_optuna.replay.light import run_light
from mordal_optuna.replay.metrics import weighted_tau
from mordal_optuna.replay.run import method_settings, pool_tree, replay
from mordal_optuna.replay.synthetic import synthetic_grid
from mordal_optuna.search.ranking import Ranker

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from benchmarks.minigrid.tables.data import TaskData
    from benchmarks.minigrid.tables.methods import Values
    from benchmarks.rivals_search.methods import Method
    from mordal_optuna.replay.grid import Grid

# Sources of synthetic grids, and models a side.
SYNTHETIC, LARGE = "synthetic", "synthetic 16 x 16"
_SIDES = {SYNTHETIC: 7, LARGE: 16}
# Bootstrap number of the other tasks' grids, added to that of the task that is searched.
_APART = 100_000
_DRAWS = 10


@dataclass(frozen=True, order=True)
class Key:
    """One replayed search.

    Attributes:
        source: name of a task, `SYNTHETIC` or `LARGE`.
        number: number of the grid, see the module.
        method: name of the method.
        full_runs: budget in full runs; 0 for a method without a limit.
    """

    source: str
    number: int
    method: str
    full_runs: float


Results = dict[Key, dict[str, float]]


def keys_of(
    source: str, number: int, methods: Sequence[str], budgets: Sequence[float]
) -> list[Key]:
    """The searches on one grid: every method that can be run on it, with every budget."""
    keys = []
    for name in methods:
        method = ALL[name]
        if source in _SIDES and method.needs == "other tasks":
            continue
        keys += [Key(source, number, name, b) for b in (budgets if method.limited else (0.0,))]
    return keys


def run_grid(folder: Path, tasks: Sequence[str], keys: Sequence[Key]) -> Results:
    """Run searches on one grid.

    Args:
        folder: folder of the minigrid's files.
        tasks: names of all tasks.
        keys: searches on the same grid; at least one.

    Raises:
        GridError: if a file is missing or invalid.
    """
    source, number = keys[0].source, keys[0].number
    others: list[Grid] = []
    if source in _SIDES:
        seen = full = _synthetic(source, number)
    else:
        with_others = any(ALL[key.method].needs == "other tasks" for key in keys)
        read = read_tasks(folder, tuple(tasks) if with_others else (source,))
        data = next(task for task in read if task.task == source)
        full = full_data(data)
        seen = full if number < 0 else Resampler(data).replicate(number)
        others = _others(read, source, number)
    seed = number if number >= 0 else -1 - number
    found = {}
    for key in keys:
        problem = Problem(seen.grid, others, key.full_runs or None, seed)
        found[key] = run_one(ALL[key.method], problem, seen, full)
    return found


def _synthetic(source: str, number: int) -> Replicate:
    side = _SIDES[source]
    grid = synthetic_grid(number, encoders=side, llms=side)
    return Replicate(grid, {candidate: grid.truth(candidate) for candidate in grid.candidates})


def _others(read: Sequence[TaskData], source: str, number: int) -> list[Grid]:
    return [
        task.grid if number < 0 else Resampler(task).grid(number + _APART)
        for task in read
        if task.task != source
    ]


def run_one(
    method: Method, problem: Problem, seen: Replicate, full: Replicate
) -> dict[str, float]:
    """The figures of one search; those that do not apply are left out.

    Beside the figures of `benchmarks.minigrid.tables.methods`, `tau_joint` is the weighted tau of
    the same scores ranked by the package's model of all scores.

    Args:
        method: the method.
        problem: what it is run on.
        seen: the grid of the problem with its truth.
        full: the full data, in whose truth regret is measured.
    """
    if method.sees:
        problem = replace(problem, grid=method.sees(problem.grid))
    grid, seed = problem.grid, problem.seed
    if method.needs == "a study":
        run = replay(grid, method.name, seed=seed, budget=problem.full_runs, truths=seen.truth)
        return {**_applying(figures(run, seen, full)), "tau_joint": run.tau}
    setup = method.set_up(problem)
    search = run_light(setup.plan, grid)
    run = judge(
        grid,
        method.name,
        seed,
        1,
        setup,
        search.history,
        search.simulated,
        draws=_DRAWS,
        groups=False,
        truths=seen.truth,
    )
    # Who paid for comparing models may use it.
    tree = pool_tree(grid, method_settings("joint")) if setup.before.total else problem.tree
    ranking = Ranker(tree, grid.full_samples).rank(search.history)
    joint = weighted_tau([e.value for e in ranking], [seen.truth[e.candidate] for e in ranking])
    return {**_applying(figures(run, seen, full)), "tau_joint": joint}


def _applying(values: Values) -> dict[str, float]:
    """The figures without those that do not apply."""
    return {name: value for name, value in values.items() if value is not None}


def read_results(path: Path) -> Results:
    """Results of earlier runs; none if the file does not exist.

    A last line without its end was cut off when a run was interrupted; it is left out.
    """
    if not path.is_file():
        return {}
    complete = path.read_text(encoding="utf-8").rpartition("\n")[0]
    rows = map(json.loads, complete.splitlines())
    return {Key(*row["key"]): row["figures"] for row in rows}


def to_lines(results: Mapping[Key, Mapping[str, float]]) -> str:
    """Results as lines of the file."""
    rows: Iterable[dict[str, object]] = (
        {
            "key": [key.source, key.number, key.method, key.full_runs],
            "figures": {name: round(value, 6) for name, value in values.items()},
        }
        for key, values in results.items()
    )
    return "".join(json.dumps(row) + "\n" for row in rows)
