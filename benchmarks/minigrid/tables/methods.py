"""Every method on every task: what it ranks, picks, loses and costs, with intervals.

The figures on the full data come from `mordal_optuna.replay.run.replay`, the real sampler and
pruner on a study. Methods in which something is random (`random`, stock Optuna) are the mean of
several seeds. Bootstraps (see `bootstrap`) run the same plans without Optuna (see `light`), but
for stock Optuna, which is replayed on fewer of them; replicate number b takes b as its seed.
Budgets of random and stock Optuna are what `mordal` spends on the same grid.

Training-free rivals rank by their score; a pair without one is ranked last. Their cost is that of
their scores alone. They drop nobody, so "true best rejected" does not apply to them; neither does
a projected gain, since what their features cost at 7B depends on the rival.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.minigrid.tables.bootstrap import (
    Interval,
    Resampler,
    centred_interval,
    percentile_interval,
)
from mordal_optuna.pool import Candidate
from mordal_optuna.replay.costs import PartCosts
from mordal_optuna.replay.light import run_light
from mordal_optuna.replay.metrics import weighted_tau, weighted_tau_random_ties
from mordal_optuna.replay.run import (
    BUDGETED,
    METHODS,
    judge,
    method_settings,
    replay,
    set_up,
    tau_of_top,
)
from mordal_optuna.replay.stock import STOCK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.minigrid.tables.data import TaskData
    from mordal_optuna.replay.grid import Grid
    from mordal_optuna.replay.run import Replay, SetUp

# Random orders of the tied in each replicate.
_DRAWS = 10
PARTS = tuple(part.name for part in fields(PartCosts))
CORRELATIONS = ("tau", "tau_random_ties", "tau_top10")
FIGURES = (*CORRELATIONS, "regret", "rejected", "gain", "gain_projected")
# Of a method's figures on one grid: None where one does not apply.
Values = Mapping[str, float | None]


@dataclass(frozen=True)
class MethodResult:
    """A method on a task.

    Attributes:
        figures: by `FIGURES`, and `cost_PART` and `cost` in full runs, `projected_PART`.
        replicates: the same on every replicate.
        picked: encoder and LLM that it names on the full data.
    """

    figures: Values
    replicates: tuple[Values, ...]
    picked: tuple[str, str]

    def interval(self, figure: str) -> Interval | None:
        """A figure with its interval; None where it does not apply.

        The value of `rejected` is its share over the replicates; on the full data alone it could
        only be 0 or 1.
        """
        value = self.figures[figure]
        found = [own for row in self.replicates if (own := row[figure]) is not None]
        if value is None or not found:
            return None
        if figure == "rejected":
            return share_interval(found)
        return as_interval(figure, value, found)


def as_interval(figure: str, value: float, found: Sequence[float]) -> Interval:
    """A figure's interval by the rule for its kind."""
    if figure == "regret":
        return percentile_interval(value, found)
    if figure in CORRELATIONS:
        return centred_interval(value, found, least=-1.0, most=1.0)
    return centred_interval(value, found, least=0.0, most=np.inf)


def share_interval(found: Sequence[float]) -> Interval:
    """A share over replicates with Wilson's 95 % interval for so many of them."""
    count, share, z = len(found), float(np.mean(found)), 1.959964
    centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2)) / (1 + z**2 / count)
    low, high = max(0.0, float(centre - half)), min(1.0, float(centre + half))
    return Interval(share, share, low, high)


def light_replay(
    grid: Grid, method: str, *, seed: int = 0, budget: float | None = None, draws: int = 100
) -> Replay:
    """What `replay` gives for a method that is a plan, without a study."""
    return light_judged(grid, method, _set_up(grid, method, seed, budget), seed=seed, draws=draws)


def _set_up(grid: Grid, method: str, seed: int = 0, budget: float | None = None) -> SetUp:
    return set_up(grid, method, method_settings(method), seed, budget)


def light_judged(
    grid: Grid, method: str, setup: SetUp, *, seed: int = 0, draws: int = 100
) -> Replay:
    """Run a search that is set up, and judge it."""
    found = run_light(setup.plan, grid)
    history, simulated = found.history, found.simulated
    return judge(grid, method, seed, 1, setup, history, simulated, draws=draws, groups=False)


def figures(found: Replay, full: Grid) -> dict[str, float | None]:
    """A replay's figures; its regret in the scores of the full data.

    Args:
        found: on the full data or on a replicate.
        full: the full data.
    """
    runs = full.full_run_seconds
    named = {f"cost_{part}": getattr(found.cost, part) / runs for part in PARTS}
    projected = {f"projected_{part}": getattr(found.cost_projected, part) for part in PARTS}
    return {
        "tau": found.tau,
        "tau_random_ties": found.tau_random_ties,
        "tau_top10": found.tau_top10,
        "regret": lost(full, found.picked),
        "rejected": float(found.best_rejected),
        "gain": found.gain,
        "gain_projected": found.gain_projected,
        "cost": found.cost.total / runs,
        **named,
        **projected,
    }


def lost(full: Grid, picked: tuple[str, str]) -> float:
    """Score points on 0..1 that a pick loses against the best of the full data."""
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
        replicates: of its grid.
        budgets: full runs for those who need a budget, on the full data and on each replicate.
        seeds: of the random methods on the full data.
    """
    limits = budgets if method in BUDGETED else [None] * len(budgets)
    seeds = seeds if method in BUDGETED else 1
    # Trees and costs do not depend on scores: where nothing is random one plan serves all.
    shared = None if method in BUDGETED else _set_up(data.grid, method)
    full = [replay(data.grid, method, seed=s, budget=limits[0]) for s in range(seeds)]
    means = mean_values([figures(found, data.grid) for found in full])
    rows = []
    for number, (grid, budget) in enumerate(zip(replicates, limits[1:], strict=True)):
        if method in STOCK:
            found = replay(grid, method, seed=number, budget=budget)
        else:
            setup = shared or _set_up(grid, method, number, budget)
            found = light_judged(grid, method, setup, seed=number, draws=_DRAWS)
        rows.append(figures(found, data.grid))
    return MethodResult(means, tuple(rows), full[0].picked)


def mean_values(rows: Sequence[Values]) -> dict[str, float | None]:
    """Means of figures over rows; None where they do not apply."""
    return {
        key: None if rows[0][key] is None else float(np.mean([row[key] for row in rows]))
        for key in rows[0]
    }


def run_rival(data: TaskData, rival: str, replicates: Sequence[Grid]) -> MethodResult:
    """A training-free ranking; it is the same on all replicates, the truth is not."""
    assert data.rivals is not None
    scores = ranked_last(data.rivals.scores[rival])
    best = data.grid.candidates[int(np.argmax(scores))]
    picked = (best.vision_encoder, best.llm)
    seconds = data.rivals.seconds[rival]
    parts = {f"cost_{part}": 0.0 for part in PARTS} | {f"projected_{p}": None for p in PARTS}
    runs = seconds / data.grid.full_run_seconds
    fixed = {
        **parts,
        "regret": lost(data.grid, picked),
        "rejected": None,
        "gain": data.grid.grid_seconds / seconds if seconds else None,
        "gain_projected": None,
        "cost": runs,
        "cost_features": runs,
    }
    rows = [{**fixed, **correlations(scores, grid)} for grid in (data.grid, *replicates)]
    return MethodResult(rows[0], tuple(rows[1:]), picked)


def ranked_last(scores: np.ndarray) -> list[float]:
    """Scores with those that are no number below all others."""
    known = scores[np.isfinite(scores)]
    least = float(known.min()) - 1.0 if len(known) else 0.0
    return np.where(np.isfinite(scores), scores, least).tolist()


def correlations(scores: Sequence[float], grid: Grid) -> dict[str, float | None]:
    """The rank correlations of scores, one a pair, with a grid's truth."""
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
        replicates: bootstraps.
        stock_replicates: bootstraps of stock Optuna, at most as many.
        seeds: of the random methods on the full data.
    """
    resampler = Resampler(data)
    grids = [resampler.grid(number) for number in range(replicates)]
    budgets = [light_replay(grid, "mordal").full_runs for grid in (data.grid, *grids)]
    found = {}
    for method in METHODS:
        count = stock_replicates if method in STOCK else replicates
        found[method] = run_method(data, method, grids[:count], budgets[: count + 1], seeds=seeds)
    for rival in data.rivals.scores if data.rivals else ():
        found[rival] = run_rival(data, rival, grids)
    return found
