"""Where the priors of the joint model come from: hyperparameters fitted to whole grids.

    OMP_NUM_THREADS=1 uv run python -m benchmarks.minigrid.tables.priors

The hyperparameters of `mordal_optuna.search.joint.effects` are fitted to all scores of each task
of the minigrid, with the likelihoods of its documents, and of 16 synthetic 7 x 7 grids. The priors
of these fits have the medians of the shipped ones and log-sds three times as wide, so that the
grids decide. The command prints the geometric mean and the log-sd of each set, and the prior of
each task from everything but that task. It takes about a minute of one thread.

Symbols:
    t_n         natural logarithms of the hyperparameters fitted to grid n
    m_1, v_1    mean and variance of t over the tasks (all, or all but one)
    m_2, v_2    the same over the synthetic grids
    slope       change of ln error per doubling, of the mean over all pairs

A prior weighs both sets alike, since the grids of a set are alike: its log median is (m_1 + m_2) /
2, its squared log-sd (v_1 + v_2) / 2 + (m_1 - m_2)^2 / 4. Synthetic grids have no likelihoods, so
the two hyperparameters of likelihoods come from the tasks alone.
"""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.minigrid.tables.data import read_tasks
from benchmarks.minigrid.tables.markdown import table
from mordal_optuna.errors import GridError
from mordal_optuna.replay.run import method_settings, pool_tree
from mordal_optuna.replay.synthetic import synthetic_grid
from mordal_optuna.search.joint.effects import PRIOR, Hyperprior
from mordal_optuna.search.joint.posterior import JointModel
from mordal_optuna.zoo.tasks.names import TASKS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.minigrid.tables.data import TaskData
    from mordal_optuna.pool import Candidate
    from mordal_optuna.replay.grid import Grid
    from mordal_optuna.search.curves import Measurement
    from mordal_optuna.search.joint.effects import Floats, Hyperparameters

GRIDS = Path(__file__).parents[1] / "grids"
# Seeds of the synthetic grids; none of `benchmarks.replay`, which are those from 0 to 99.
SYNTHETIC = tuple(range(2000, 2016))
NAMES = (
    *("s, encoder", "s, LLM", "s, interaction", "d, encoder", "d, LLM", "d, interaction"),
    *("g", "k", "h", "b_1", "h_1", "r"),
)
# Indices of b_1 and h_1, which only likelihoods determine.
_OF_LIKELIHOODS = [9, 10]
_WIDER = 3.0


@dataclass(frozen=True)
class Fitted:
    """What was fitted to one grid.

    Attributes:
        logs: t, 12 entries in the order of `NAMES`.
        slope: slope of the mean curve, by least squares over all rungs.
    """

    logs: Floats
    slope: float


def wide() -> Hyperprior:
    """The prior of the fits."""
    return Hyperprior(PRIOR.medians, tuple(_WIDER * s for s in PRIOR.spreads))


def logs_of(values: Hyperparameters) -> Floats:
    """Natural logarithms of hyperparameters, in the order of `NAMES`."""
    flat: list[float] = []
    for value in astuple(values):
        flat += value if isinstance(value, tuple) else [value]
    return np.log(np.array(flat))


def scores_of(grid: Grid, nlls: np.ndarray | None) -> list[tuple[Candidate, Measurement]]:
    """All scores of a grid, with the mean likelihood of the reference answers where it is known.

    Args:
        grid: the grid.
        nlls: -ln p of each document, pairs x rungs x documents; None without likelihoods.
    """
    scores = []
    for row, candidate in enumerate(grid.candidates):
        for rung, samples in enumerate(grid.curves[0].samples):
            score = grid.measurement(candidate, samples)
            if nlls is not None:
                p = np.exp(-nlls[row, rung])
                stderr = float(p.std(ddof=1)) / math.sqrt(len(p))
                score = replace(score, p_correct=float(p.mean()), p_correct_stderr=stderr)
            scores.append((candidate, score))
    return scores


def fitted(grid: Grid, nlls: np.ndarray | None = None) -> Fitted:
    """Fit a grid, with the correlations that a search has.

    Args:
        grid: the grid, with its similarities.
        nlls: see `scores_of`.
    """
    scores = scores_of(grid, nlls)
    similarities = pool_tree(grid, method_settings("mordal")).similarities
    model = JointModel(
        scores, grid.candidates, grid.full_samples, similarities=similarities, prior=wide()
    )
    x = np.log2(np.array(grid.curves[0].samples) / grid.full_samples)
    y = np.array([m.log_error for _, m in scores]).reshape(-1, len(x)).mean(axis=0)
    return Fitted(logs_of(model.values), float(np.polyfit(x, y, 1)[0]))


def fit_tasks(tasks: Sequence[TaskData]) -> dict[str, Fitted]:
    """The fits of tasks by their names."""
    return {data.task: fitted(data.grid, data.nlls) for data in tasks}


def fit_synthetic(seeds: Sequence[int] = SYNTHETIC) -> tuple[Fitted, ...]:
    """The fits of synthetic grids."""
    return tuple(fitted(synthetic_grid(seed)) for seed in seeds)


def prior_of(tasks: Sequence[Fitted], synthetic: Sequence[Fitted]) -> Hyperprior:
    """The prior that weighs two sets of grids alike.

    Args:
        tasks: fits of tasks, at least two.
        synthetic: fits of synthetic grids, at least two.
    """
    first = np.array([one.logs for one in tasks])
    second = np.array([one.logs for one in synthetic])
    means, variances = (np.array([f(s, axis=0) for s in (first, second)]) for f in (np.mean, _var))
    for place in _OF_LIKELIHOODS:
        means[1, place], variances[1, place] = means[0, place], variances[0, place]
    spread = np.sqrt(variances.mean(axis=0) + (means[0] - means[1]) ** 2 / 4)
    medians = np.exp(means.mean(axis=0))
    return Hyperprior(tuple(medians.tolist()), tuple(spread.tolist()))


def _var(rows: Floats, axis: int) -> Floats:
    return np.asarray(rows.var(axis=axis, ddof=1))


@cache
def _all_fits(folder: Path) -> tuple[Mapping[str, Fitted], tuple[Fitted, ...]]:
    return fit_tasks(read_tasks(folder)), fit_synthetic()


def prior_without(task: str, folder: Path = GRIDS) -> Hyperprior:
    """The prior from the synthetic grids and all tasks but one.

    The first call fits all grids, in about a minute.

    Args:
        task: name of the task that is left out.
        folder: folder of the grid files.

    Raises:
        GridError: if there is no such task, or a file is missing or invalid.
    """
    if task not in TASKS:
        raise GridError(f"task {task!r} was given; it must be one of {', '.join(TASKS)}")
    tasks, synthetic = _all_fits(folder)
    return prior_of([one for name, one in tasks.items() if name != task], synthetic)


def distances(prior: Hyperprior) -> Floats:
    """How far the shipped medians are from those of a prior, in log-sds of the prior."""
    return np.asarray((PRIOR.logs - prior.logs) / np.array(prior.spreads))


def slope_without(task: str, tasks: Mapping[str, Fitted], synthetic: Sequence[Fitted]) -> str:
    """Mean and sd of the slope over the synthetic grids and all tasks but one, weighed alike."""
    first = np.array([one.slope for name, one in tasks.items() if name != task])
    second = np.array([one.slope for one in synthetic])
    between = (first.mean() - second.mean()) ** 2 / 4
    spread = math.sqrt((first.var(ddof=1) + second.var(ddof=1)) / 2 + between)
    return f"{(first.mean() + second.mean()) / 2:.3f} ({spread:.3f})"


def report(tasks: Mapping[str, Fitted], synthetic: Sequence[Fitted]) -> str:
    """The tables, in Markdown."""
    return f"{fits_table(tasks, synthetic)}\n\n{priors_table(tasks, synthetic)}\n"


def fits_table(tasks: Mapping[str, Fitted], synthetic: Sequence[Fitted]) -> str:
    """Fitted hyperparameters: every task, both sets, and the shipped prior."""
    sets = [_moments([one.logs for one in group]) for group in (list(tasks.values()), synthetic)]
    single = [np.exp(one.logs) for one in tasks.values()]
    rows = []
    for place, name in enumerate(NAMES):
        shown = [f"{mean[place]:.3g} ({sd[place]:.2f})" for mean, sd in sets]
        if place in _OF_LIKELIHOODS:
            shown[1] = "-"
        shipped = f"{PRIOR.medians[place]:.3g} ({PRIOR.spreads[place]:.2f})"
        rows.append([name, *(f"{values[place]:.2g}" for values in single), *shown, shipped])
    slopes = [[one.slope for one in group] for group in (list(tasks.values()), synthetic)]
    ends = [f"{np.mean(group):.3f} ({np.std(group, ddof=1):.3f})" for group in slopes]
    rows.append(["slope", *(f"{slope:.3f}" for slope in slopes[0]), *ends, "-0.1 (0.1)"])
    return table(["", *tasks, "tasks", "synthetic", "shipped"], rows)


def _moments(logs: Sequence[Floats]) -> tuple[Floats, Floats]:
    rows = np.array(logs)
    return np.exp(rows.mean(axis=0)), np.sqrt(_var(rows, 0))


def priors_table(tasks: Mapping[str, Fitted], synthetic: Sequence[Fitted]) -> str:
    """The prior without each task, and how far the shipped medians are from it."""
    priors = {
        task: prior_of([one for name, one in tasks.items() if name != task], synthetic)
        for task in tasks
    }
    rows = []
    for place, name in enumerate(NAMES):
        cells = [
            f"{p.medians[place]:.3g} ({p.spreads[place]:.2f}) {distances(p)[place]:+.1f}"
            for p in priors.values()
        ]
        rows.append([name, *cells])
    rows.append(["slope", *(slope_without(task, tasks, synthetic) for task in tasks)])
    return table(["without", *tasks], rows)


def main() -> None:
    """Fit all grids and print the tables."""
    tasks, synthetic = _all_fits(GRIDS)
    print(report(tasks, synthetic), end="")


if __name__ == "__main__":
    main()
