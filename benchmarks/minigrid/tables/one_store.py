"""Cost of all tasks together: searches with one shared checkpoint store, one grid, or none shared.

    one store       a pair is trained once, up to the highest rung that any task needs, and a
                    projector is warmed up once, as in the product (`preparation`); features and
                    evaluations are paid for each task, since they depend on its pictures and
                    documents
    separate        every search trains its own pairs
    shared grid     every pair trained fully once, and scored once on every task
    separate grids  every pair trained fully for every task

No search uses the others' scores. With a store a search could score the others' rungs for the
price of an evaluation, which is not assumed here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mordal_optuna.errors import GridError
from mordal_optuna.replay.costs import SCORED_DOCUMENT, TRAIN_SAMPLE, warmed_up
from mordal_optuna.replay.run import method_settings, pool_tree
from mordal_optuna.search.methods.catalogue import METHODS

if TYPE_CHECKING:
    from benchmarks.minigrid.tables.data import TaskData
    from mordal_optuna.pool import Candidate
    from mordal_optuna.replay.grid import Grid
    from mordal_optuna.replay.judging import Replay
    from mordal_optuna.study.costs import Costs

# Highest rung of each candidate that was trained, by candidate.
Tops = Mapping["Candidate", int]


@dataclass(frozen=True)
class Bill:
    """Device-seconds for all tasks.

    Attributes:
        store: searches that share one store.
        separate: the same searches without a shared store.
        grid: one grid for all tasks.
        grids: one grid per task.
    """

    store: float
    separate: float
    grid: float
    grids: float

    @property
    def gain_over_grid(self) -> float:
        """How many times cheaper the store is than the shared grid."""
        return self.grid / self.store

    @property
    def gain_over_separate(self) -> float:
        """How many times cheaper the store is than separate searches."""
        return self.separate / self.store

    @property
    def separate_over_grid(self) -> float:
        """How many times cheaper separate searches are than the shared grid."""
        return self.grid / self.separate


def tops(run: Replay) -> Tops:
    """Highest rung of each trained candidate."""
    return {e.candidate: e.samples for e in run.ranking if e.samples}


def warmed(data: TaskData, method: str) -> dict[Candidate, float]:
    """Device-seconds of the warm-ups of projectors that a method needs on a task, by pair."""
    settings = method_settings(method)
    if not METHODS[settings.method].needs_clusters:
        return {}
    return {c: data.warmups[c] for c in warmed_up(pool_tree(data.grid, settings))}


def measured(
    grids: Sequence[Grid], runs: Sequence[Replay], warmed: Sequence[Mapping[Candidate, float]]
) -> Bill:
    """The bill in measured device-seconds.

    Args:
        grids: one grid per task, of the same pool.
        runs: one search per task.
        warmed: device-seconds of the warm-ups of each search, by pair.
    """
    furthest: dict[Candidate, float] = {}
    for grid, run in zip(grids, runs, strict=True):
        for candidate, samples in tops(run).items():
            seconds = grid.measurement(candidate, samples).train_seconds
            furthest[candidate] = max(furthest.get(candidate, 0.0), seconds)
    separate = sum(run.cost.total for run in runs)
    training = sum(run.cost.training for run in runs)
    evaluated = sum(curve.eval_seconds[-1] for grid in grids for curve in grid.curves)
    full = dict.fromkeys(grids[0].candidates, 0.0)
    for grid in grids:
        for curve in grid.curves:
            full[curve.candidate] = max(full[curve.candidate], curve.train_seconds[-1])
    return Bill(
        store=separate - training + sum(furthest.values()) - _saved(warmed),
        separate=separate,
        grid=sum(full.values()) + evaluated,
        grids=sum(grid.grid_seconds for grid in grids),
    )


def projected(
    grids: Sequence[Grid], runs: Sequence[Replay], warmed: Sequence[Mapping[Candidate, float]]
) -> Bill:
    """The bill with every unit weighted by its cost at 7B (`mordal_optuna.replay.costs`).

    The arguments are those of `measured`.
    """
    equal_samples = [
        {c: seconds / grid.seconds_per_sample(c) for c, seconds in by_pair.items()}
        for grid, by_pair in zip(grids, warmed, strict=True)
    ]
    furthest: dict[Candidate, int] = {}
    for run in runs:
        for candidate, samples in tops(run).items():
            furthest[candidate] = max(furthest.get(candidate, 0), samples)
    costs = [_projected_cost(run) for run in runs]
    separate = sum(cost.total for cost in costs)
    training = sum(cost.training for cost in costs)
    pairs, samples = len(grids[0].candidates), grids[0].full_samples
    evaluated = pairs * sum(grid.test_documents for grid in grids) * SCORED_DOCUMENT
    trained = pairs * samples * TRAIN_SAMPLE
    return Bill(
        store=separate
        - training
        + (sum(furthest.values()) - _saved(equal_samples)) * TRAIN_SAMPLE,
        separate=separate,
        grid=trained + evaluated,
        grids=len(grids) * trained + evaluated,
    )


def _projected_cost(run: Replay) -> Costs:
    if run.cost_projected is None:
        raise GridError(f"{run.method}: its cost cannot be projected; the grid file lacks a cost")
    return run.cost_projected


def _saved(warmed: Sequence[Mapping[Candidate, float]]) -> float:
    """Cost saved because a projector warmed up by one search serves the others."""
    once: dict[Candidate, float] = {}
    for by_pair in warmed:
        for candidate, cost in by_pair.items():
            once[candidate] = max(once.get(candidate, 0.0), cost)
    return sum(sum(by_pair.values()) for by_pair in warmed) - sum(once.values())
