"""Replaying every method on every grid, with results in a file that a later run continues.

Grids of tasks are the minigrid's full data and its bootstraps (`benchmarks.minigrid.tables`): the
same documents and seeds for every method. Numbers from 0 are bootstraps; negative ones are the
full data, searched with seed 0 at -1, seed 1 at -2 and so on. Synthetic grids are numbered by
seed. The other tasks that `oboe-tasks` learns from are further bootstraps, so that their redrawn
documents and seeds are not those of the task that is searched; the runs underneath are the same.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.minigrid.tables.bootstrap import Resampler
from benchmarks.minigrid.tables.data import read_tasks
from benchmarks.minigrid.tables.methods import figures
from benchmarks.rivals_search.methods import METHODS
from benchmarks.rivals_search.problem import Problem
from mordal_optuna.replay.judging import judge
from mordal_optuna.replay.light import run_light
from mordal_optuna.replay.metrics import weighted_tau
from mordal_optuna.replay.run import replay
from mordal_optuna.replay.synthetic import synthetic_grid
from mordal_optuna.search.ranking import Ranker

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from benchmarks.rivals_search.methods import Method
    from mordal_optuna.replay.grid import Grid

SYNTHETIC = "synthetic"
# Bootstrap number of the other tasks' grids, added to that of the task that is searched.
_APART = 100_000
_DRAWS = 10


@dataclass(frozen=True, order=True)
class Key:
    """One replayed search.

    Attributes:
        source: name of a task, or `SYNTHETIC`.
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
        method = METHODS[name]
        if source == SYNTHETIC and method.needs == "other tasks":
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
    if source == SYNTHETIC:
        grid = full = synthetic_grid(number)
        others: list[Grid] = []
    else:
        data = {task.task: task for task in read_tasks(folder, tuple(tasks))}
        full = data[source].grid
        grid = full if number < 0 else Resampler(data[source]).grid(number)
        others = [
            task.grid if number < 0 else Resampler(task).grid(number + _APART)
            for name, task in data.items()
            if name != source
        ]
    seed = number if number >= 0 else -1 - number
    found = {}
    for key in keys:
        problem = Problem(grid, others, key.full_runs or None, seed)
        found[key] = run_one(METHODS[key.method], problem, full)
    return found


def run_one(method: Method, problem: Problem, full: Grid) -> dict[str, float]:
    """The figures of one search; those that do not apply are left out.

    Beside the figures of `benchmarks.minigrid.tables.methods`, `tau_joint` is the weighted tau of
    the same scores ranked by the package's model of all scores.

    Args:
        method: the method.
        problem: what it is run on.
        full: grid of the full data, in whose scores regret is measured.
    """
    grid, seed = problem.grid, problem.seed
    if method.needs == "a study":
        run = replay(grid, method.name, seed=seed, budget=problem.full_runs)
        values = figures(run, full)
        return {**{k: v for k, v in values.items() if v is not None}, "tau_joint": run.tau}
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
    )
    ranking = Ranker(problem.tree, grid.full_samples).rank(search.history)
    joint = weighted_tau([e.value for e in ranking], [grid.truth(e.candidate) for e in ranking])
    values = figures(run, full)
    return {**{k: v for k, v in values.items() if v is not None}, "tau_joint": joint}


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
