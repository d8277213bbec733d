"""Every method on every task: ranking, regret and cost, with intervals.

The figures on the full data come from `mordal_optuna.replay.run.replay`, which runs the real
sampler and pruner on a study. Figures of methods with random choices (`random`, stock Optuna) are
means over several seeds. Bootstraps (see `bootstrap`) run the same plans without Optuna (see
`mordal_optuna.replay.light`); stock Optuna is replayed, on fewer bootstraps. Replicate number b
uses b as its seed. The budget of random and stock Optuna is the cost of `mordal` on the same grid.

Training-free rivals rank pairs by their score; a pair without a score is ranked last. Their cost
is that of their scores alone. They reject no pair, so "true best rejected" does not apply to them.
A projected gain does not apply either, since the cost of their features at 7B depends on the
rival.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.minigrid.tables.bootstrap import (
    Interval,
    Resampler,
    centred_interval,
    percentile_interval,
)
from mordal_optuna.pool import Candidate
from mordal_optuna.replay.costs import PARTS
from mordal_optuna.replay.judging import judge
from mordal_optuna.replay.light import run_light
from mordal_optuna.replay.metrics import tau_of_top, weighted_tau, weighted_tau_random_ties
from mordal_optuna.replay.run import (
    BUDGETED,
    METHODS,
    method_settings,
    replay,
    set_up,
)
from mordal_optuna.replay.stock import STOCK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.minigrid.tables.data import TaskData
    from mordal_optuna.replay.grid import Grid
    from mordal_optuna.replay.judging import Replay
    from mordal_optuna.replay.simulate import SetUp

# Number of random orders of tied pairs per replicate.
_DRAWS = 10
CORRELATIONS = ("tau", "tau_random_ties", "tau_top10")
FIGURES = (*CORRELATIONS, "regret", "rejected", "gain", "gain_projected")
# Figures of a method on one grid; None where a figure does not apply.
Values = Mapping[str, float | None]


@dataclass(frozen=True)
class MethodResult:
    """A method on a task.

    Attributes:
        figures: values on the full data: `FIGURES`, `cost_PART` and `cost` in full runs,
            `projected_PART`.
        replicates: the same values on every replicate.
        picked: encoder and LLM of the pair picked on the full data.
    """

    figures: Values
    replicates: tuple[Values, ...]
    picked: tuple[str, str]

    def interval(self, figure: str) -> Interval | None:
        """A figure with its interval; None where it does not apply.

        The value of `rejected` is its share over the replicates, since on the full data it can
        only be 0 or 1.
        """
        value = self.figures[figure]
        values = [v for row in self.replicates if (v := row[figure]) is not None]
        if value is None or not values:
            return None
        if figure == "rejected":
            return share_interval(values)
        return as_interval(figure, value, values)


def as_interval(figure: str, value: float, replicates: Sequence[float]) -> Interval:
    """Interval of a figure, by the rule for its kind.

    Args:
        figure: name of the figure.
        value: figure on the full data.
        replicates: figure on each replicate.
    """
    if figure == "regret":
        return percentile_interval(value, replicates)
    if figure in CORRELATIONS:
        return centred_interval(value, replicates, least=-1.0, most=1.0)
    return centred_interval(value, replicates, least=0.0, most=np.inf)


def share_interval(values: Sequence[float]) -> Interval:
    """A share with Wilson's 95 % interval.

    Args:
        values: 0 or 1 per replicate.
    """
    count, share, z = len(values), float(np.mean(values)), 1.959964
    centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2)) / (1 + z**2 / count)
    low, high = max(0.0, float(centre - half)), min(1.0, float(centre + half))
    return Interval(share, share, low, high)


def light_replay(
    grid: Grid, method: str, *, seed: int = 0, budget: float | None = None, draws: int = 100
) -> Replay:
    """Replay a method that is a plan, without a study; the result equals that of `replay`.

    Args:
        grid: the truth.
        method: name of the method.
        seed: random seed.
        budget: full runs, for methods that need a budget.
        draws: number of random orders of tied pairs.
    """
    return light_judged(grid, method, _set_up(grid, method, seed, budget), seed=seed, draws=draws)


def _set_up(grid: Grid, method: str, seed: int = 0, budget: float | None = None) -> SetUp:
    return set_up(grid, method, method_settings(method), seed, budget)


def light_judged(
    grid: Grid, method: str, setup: SetUp, *, seed: int = 0, draws: int = 100
) -> Replay:
    """Run a prepared search and judge it.

    Args:
        grid: the truth.
        method: name of the method.
        setup: the prepared search.
        seed: random seed of the orders of tied pairs.
        draws: number of random orders of tied pairs.
    """
    search = run_light(setup.plan, grid)
    history, simulated = search.history, search.simulated
    return judge(grid, method, seed, 1, setup, history, simulated, draws=draws, groups=False)


def figures(run: Replay, full: Grid) -> dict[str, float | None]:
    """Figures of a replay; regret is measured in the scores of the full data.

    Args:
        run: replay on the full data or on a replicate.
        full: grid of the full data.
    """
    seconds = full.full_run_seconds
    named = {f"cost_{part}": getattr(run.cost, part) / seconds for part in PARTS}
    projected = {f"projected_{part}": getattr(run.cost_projected, part) for part in PARTS}
    return {
        "tau": run.tau,
        "tau_random_ties": run.tau_random_ties,
        "tau_top10": run.tau_top10,
        "regret": regret(full, run.picked),
        "rejected": float(run.best_rejected),
        "gain": run.gain,
        "gain_projected": run.gain_projected,
        "cost": run.cost.total / seconds,
        **named,
        **projected,
    }


def regret(full: Grid, picked: tuple[str, str]) -> float:
    """Difference of the best score at r = 1 and the picked pair's, on 0..1."""
    best = max(full.truth(candidate) for candidate in full.candidates)
    return best - full.truth(Candidate(*picked))


def run_method(
    data: TaskData,
    method: str,
    replicates: Sequence[Grid],
    budgets: Sequence[float | None],
    *,
    seeds: int,
) -> MethodResult:
    """One method on the full data and on replicates.

    Args:
        data: the task.
        method: one of `METHODS`.
        replicates: bootstraps of the task's grid.
        budgets: full runs on the full data and on each replicate, for methods that need a budget.
        seeds: number of seeds of methods with random choices, on the full data.
    """
    limits = budgets if method in BUDGETED else [None] * len(budgets)
    seeds = seeds if method in BUDGETED else 1
    # Trees and costs do not depend on scores, so a plan without random choices serves all grids.
    shared = None if method in BUDGETED else _set_up(data.grid, method)
    full = [replay(data.grid, method, seed=s, budget=limits[0]) for s in range(seeds)]
    means = mean_values([figures(run, data.grid) for run in full])
    rows = []
    for number, (grid, budget) in enumerate(zip(replicates, limits[1:], strict=True)):
        if method in STOCK:
            run = replay(grid, method, seed=number, budget=budget)
        else:
            setup = shared or _set_up(grid, method, number, budget)
            run = light_judged(grid, method, setup, seed=number, draws=_DRAWS)
        rows.append(figures(run, data.grid))
    return MethodResult(means, tuple(rows), full[0].picked)


def mean_values(rows: Sequence[Values]) -> dict[str, float | None]:
    """Means of figures over rows; None where a figure does not apply."""
    return {
        key: None if rows[0][key] is None else float(np.mean([row[key] for row in rows]))
        for key in rows[0]
    }


def run_rival(data: TaskData, rival: str, replicates: Sequence[Grid]) -> MethodResult:
    """A training-free ranking, judged against the truth of each replicate."""
    assert data.rivals is not None
    scores = ranked_last(data.rivals.scores[rival])
    best = data.grid.candidates[int(np.argmax(scores))]
    picked = (best.vision_encoder, best.llm)
    seconds = data.rivals.seconds[rival]
    parts = {f"cost_{part}": 0.0 for part in PARTS} | {f"projected_{p}": None for p in PARTS}
    full_runs = seconds / data.grid.full_run_seconds
    fixed = {
        **parts,
        "regret": regret(data.grid, picked),
        "rejected": None,
        "gain": data.grid.grid_seconds / seconds if seconds else None,
        "gain_projected": None,
        "cost": full_runs,
        "cost_features": full_runs,
    }
    rows = [{**fixed, **correlations(scores, grid)} for grid in (data.grid, *replicates)]
    return MethodResult(rows[0], tuple(rows[1:]), picked)


def ranked_last(scores: np.ndarray) -> list[float]:
    """Scores in which missing values are replaced by a value below all others."""
    finite = scores[np.isfinite(scores)]
    least = float(finite.min()) - 1.0 if len(finite) else 0.0
    return np.where(np.isfinite(scores), scores, least).tolist()


def correlations(scores: Sequence[float], grid: Grid) -> dict[str, float | None]:
    """Rank correlations of scores, one per pair, with a grid's scores at r = 1."""
    truths = [grid.truth(candidate) for candidate in grid.candidates]
    return {
        "tau": weighted_tau(scores, truths),
        "tau_random_ties": weighted_tau_random_ties(scores, truths, draws=_DRAWS),
        "tau_top10": tau_of_top(scores, truths),
    }


def run_methods(
    data: TaskData, *, replicates: int, stock_replicates: int, seeds: int
) -> dict[str, MethodResult]:
    """All methods and rivals on one task.

    Args:
        data: the task.
        replicates: number of bootstraps.
        stock_replicates: number of bootstraps of stock Optuna, at most `replicates`.
        seeds: number of seeds of methods with random choices, on the full data.
    """
    resampler = Resampler(data)
    grids = [resampler.grid(number) for number in range(replicates)]
    budgets = [light_replay(grid, "mordal").full_runs for grid in (data.grid, *grids)]
    results = {}
    for method in METHODS:
        count = stock_replicates if method in STOCK else replicates
        results[method] = run_method(
            data, method, grids[:count], budgets[: count + 1], seeds=seeds
        )
    for rival in data.rivals.scores if data.rivals else ():
        results[rival] = run_rival(data, rival, grids)
    return results
