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
    Replicate,
    Resampler,
    centred_interval,
    full_data,
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
CORRELATIONS = ("tau", "tau_random_ties", "tau_top10", "tau_same_run")
# Figures that compare with the truth: their mean over bootstraps is what tables show.
JUDGED = (*CORRELATIONS, "regret")
FIGURES = (*JUDGED, "rejected", "gain", "gain_projected")
# Rows of `joint`: name and budget in full runs.
JOINT_ROWS = {"joint": 4.0, "joint-3": 3.0}
# Figures of a method on one grid; None where a figure does not apply.
Values = Mapping[str, float | None]


@dataclass(frozen=True)
class MethodResult:
    """A method on a task.

    Attributes:
        figures: values on the full data: `FIGURES`, `cost_PART` and `cost` in full runs,
            `projected_PART`.
        replicates: the same values on every replicate.
        picked: encoder and LLM of the pair picked on the full data; None where none is.
    """

    figures: Values
    replicates: tuple[Values, ...]
    picked: tuple[str, str] | None

    def interval(self, figure: str) -> Interval | None:
        """A figure with its interval; None where it does not apply to any replicate.

        The value of `rejected` is its share over the replicates, since on the full data it can
        only be 0 or 1.
        """
        value = self.figures[figure]
        values = [v for row in self.replicates if (v := row[figure]) is not None]
        if not values:
            return None
        if figure == "rejected":
            return share_interval(values)
        return as_interval(figure, value, values)


def as_interval(figure: str, value: float | None, replicates: Sequence[float]) -> Interval:
    """Interval of a figure, by the rule for its kind.

    Args:
        figure: name of the figure.
        value: figure on the full data; None where there is none.
        replicates: figure on each replicate.
    """
    if figure in JUDGED or value is None:
        return percentile_interval(value, replicates)
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
    grid: Grid,
    method: str,
    *,
    seed: int = 0,
    budget: float | None = None,
    draws: int = 100,
    truths: Mapping[Candidate, float] | None = None,
) -> Replay:
    """Replay a method that is a plan, without a study; the result equals that of `replay`.

    Args:
        grid: what the search sees.
        method: name of the method.
        seed: random seed.
        budget: full runs, for methods that need a budget.
        draws: number of random orders of tied pairs.
        truths: true score of each pair; None for the scores of the same runs at r = 1.
    """
    setup = _set_up(grid, method, seed, budget)
    return light_judged(grid, method, setup, seed=seed, draws=draws, truths=truths)


def _set_up(grid: Grid, method: str, seed: int = 0, budget: float | None = None) -> SetUp:
    return set_up(grid, method, method_settings(method), seed, budget)


def light_judged(
    grid: Grid,
    method: str,
    setup: SetUp,
    *,
    seed: int = 0,
    draws: int = 100,
    truths: Mapping[Candidate, float] | None = None,
) -> Replay:
    """Run a prepared search and judge it.

    Args:
        grid: what the search sees.
        method: name of the method.
        setup: the prepared search.
        seed: random seed of the orders of tied pairs.
        draws: number of random orders of tied pairs.
        truths: true score of each pair; None for the scores of the same runs at r = 1.
    """
    search = run_light(setup.plan, grid)
    return judge(
        grid,
        method,
        seed,
        1,
        setup,
        search.history,
        search.simulated,
        draws=draws,
        groups=False,
        truths=truths,
    )


def figures(run: Replay, seen: Replicate, full: Replicate) -> dict[str, float | None]:
    """Figures of a replay that was judged by the truth of what it saw.

    Args:
        run: replay on the full data or on a replicate.
        seen: what the search saw.
        full: the full data, in whose truth regret is measured.
    """
    seconds = full.grid.full_run_seconds
    estimates = [e.value for e in run.ranking]
    named = {f"cost_{part}": getattr(run.cost, part) / seconds for part in PARTS}
    projected = {f"projected_{part}": getattr(run.cost_projected, part) for part in PARTS}
    return {
        "tau": run.tau,
        "tau_random_ties": run.tau_random_ties,
        "tau_top10": run.tau_top10,
        "tau_same_run": weighted_tau(
            estimates, [seen.grid.truth(e.candidate) for e in run.ranking]
        ),
        "regret": regret(full.truth, run.picked),
        "rejected": float(run.best_rejected),
        "gain": run.gain,
        "gain_projected": run.gain_projected,
        "cost": run.cost.total / seconds,
        **named,
        **projected,
    }


def regret(truth: Mapping[Candidate, float], picked: tuple[str, str]) -> float:
    """Difference of the best pair's true score and the picked pair's, on 0..1."""
    return max(truth.values()) - truth[Candidate(*picked)]


def run_method(
    data: TaskData,
    method: str,
    replicates: Sequence[Replicate],
    budgets: Sequence[float | None],
    *,
    seeds: int,
) -> MethodResult:
    """One method on the full data and on replicates.

    Args:
        data: the task.
        method: one of `METHODS`.
        replicates: bootstraps of the task.
        budgets: full runs on the full data and on each replicate, for methods that need a budget.
        seeds: number of seeds of methods with random choices, on the full data.
    """
    drawn = method in BUDGETED or method == "joint"  # `joint` draws its start
    limits = budgets if drawn else [None] * len(budgets)
    seeds = seeds if drawn else 1
    # Trees and costs do not depend on scores, so a plan without random choices serves all grids.
    shared = None if drawn else _set_up(data.grid, method)
    whole = full_data(data)
    full = [
        replay(data.grid, method, seed=s, budget=limits[0], truths=whole.truth)
        for s in range(seeds)
    ]
    means = mean_values([figures(run, whole, whole) for run in full])
    rows = []
    for number, (seen, budget) in enumerate(zip(replicates, limits[1:], strict=True)):
        grid, truths = seen.grid, seen.truth
        if method in STOCK:
            run = replay(grid, method, seed=number, budget=budget, truths=truths)
        else:
            setup = shared or _set_up(grid, method, number, budget)
            run = light_judged(grid, method, setup, seed=number, draws=_DRAWS, truths=truths)
        rows.append(figures(run, seen, whole))
    return MethodResult(means, tuple(rows), full[0].picked)


def _limits(method: str, budgets: Sequence[float | None]) -> dict[str, Sequence[float | None]]:
    """The budgets of a method's rows, by the row's name; `joint` has two of its own."""
    if method != "joint":
        return {method: budgets}
    return {name: [limit] * len(budgets) for name, limit in JOINT_ROWS.items()}


def mean_values(rows: Sequence[Values]) -> dict[str, float | None]:
    """Means of figures over rows; None where a figure does not apply."""
    return {
        key: None if rows[0][key] is None else float(np.mean([row[key] for row in rows]))
        for key in rows[0]
    }


def run_rival(data: TaskData, rival: str, replicates: Sequence[Replicate]) -> MethodResult:
    """A training-free ranking, judged against the truth of each replicate."""
    assert data.rivals is not None
    scores = ranked_last(data.rivals.scores[rival])
    best = data.grid.candidates[int(np.argmax(scores))]
    picked = (best.vision_encoder, best.llm)
    whole = full_data(data)
    seconds = data.rivals.seconds[rival]
    parts = {f"cost_{part}": 0.0 for part in PARTS} | {f"projected_{p}": None for p in PARTS}
    full_runs = seconds / data.grid.full_run_seconds
    fixed = {
        **parts,
        "regret": regret(whole.truth, picked),
        "rejected": None,
        "gain": data.grid.grid_seconds / seconds if seconds else None,
        "gain_projected": None,
        "cost": full_runs,
        "cost_features": full_runs,
    }
    rows = [{**fixed, **correlations(scores, seen)} for seen in (whole, *replicates)]
    return MethodResult(rows[0], tuple(rows[1:]), picked)


def ranked_last(scores: np.ndarray) -> list[float]:
    """Scores in which missing values are replaced by a value below all others."""
    finite = scores[np.isfinite(scores)]
    least = float(finite.min()) - 1.0 if len(finite) else 0.0
    return np.where(np.isfinite(scores), scores, least).tolist()


def correlations(scores: Sequence[float], seen: Replicate) -> dict[str, float | None]:
    """Rank correlations of scores, one per pair, with the truth and with one run at r = 1."""
    truths = seen.truths()
    same = [seen.grid.truth(candidate) for candidate in seen.grid.candidates]
    return {
        "tau": weighted_tau(scores, truths),
        "tau_random_ties": weighted_tau_random_ties(scores, truths, draws=_DRAWS),
        "tau_top10": tau_of_top(scores, truths),
        "tau_same_run": weighted_tau(scores, same),
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
    drawn = [resampler.replicate(number) for number in range(replicates)]
    grids = (data.grid, *(seen.grid for seen in drawn))
    budgets = [light_replay(grid, "mordal").full_runs for grid in grids]
    results = {}
    for method in METHODS:
        count = stock_replicates if method in STOCK else replicates
        for name, limits in _limits(method, budgets).items():
            results[name] = run_method(
                data, method, drawn[:count], limits[: count + 1], seeds=seeds
            )
    for rival in data.rivals.scores if data.rivals else ():
        results[rival] = run_rival(data, rival, drawn)
    return results
