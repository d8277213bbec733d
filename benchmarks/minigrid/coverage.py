"""How often the truth lies in an interval that says 95 %, by how an estimate is known.

An estimate of a search on a replicate is held against that replicate's own score at r = 1: the
same run, the same documents, trained on.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.minigrid.ablations import variants
from benchmarks.minigrid.bootstrap import Resampler
from benchmarks.minigrid.light import run_light
from mordal_optuna.search.plan import PooledPlan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.minigrid.data import TaskData
    from mordal_optuna.replay.run import SetUp
    from mordal_optuna.search.grid import Grid
    from mordal_optuna.search.ranking import Estimate

# Of the ablations' variants, those whose intervals differ.
COMPARED = ("default", "no run noise")
IN_RACE, AT_R = "extrapolated, in the race", "extrapolated from R"
SCORED, UNSEEN = "inferred from scores", "inferred, never trained"
KINDS = (IN_RACE, AT_R, SCORED, UNSEEN)


@dataclass(frozen=True)
class Coverage:
    """Estimates of one kind.

    Attributes:
        share: of all estimates of the searches, 0..1.
        covered: share whose interval holds the truth, 0..1.
        half_width: mean half width of the intervals, 0..1.
        error: mean absolute difference of estimate and truth, 0..1.
    """

    share: float
    covered: float
    half_width: float
    error: float


def coverage(data: TaskData, *, replicates: int) -> dict[str, dict[str, Coverage]]:
    """By variant, then kind, over the full data and replicates of one task."""
    resampler = Resampler(data)
    grids = [data.grid, *(resampler.grid(number) for number in range(replicates))]
    return {
        variant.name: covered(variant.set_up(data), grids)
        for variant in variants()
        if variant.name in COMPARED
    }


def covered(setup: SetUp, grids: Sequence[Grid]) -> dict[str, Coverage]:
    """One search on several grids of the same pool, by kind."""
    plan = setup.plan
    assert isinstance(plan, PooledPlan)
    rows = defaultdict(list)
    for grid in grids:
        for estimate in plan.ranking(run_light(plan, grid).history):
            truth = grid.truth(estimate.candidate)
            rows[_kind(estimate, plan.finish_rungs[0])].append(
                (
                    estimate.low <= truth <= estimate.high,
                    (estimate.high - estimate.low) / 2,
                    abs(estimate.value - truth),
                )
            )
    total = sum(map(len, rows.values()))
    return {
        kind: Coverage(len(own) / total, *np.mean(own, axis=0).tolist())
        for kind, own in rows.items()
    }


def _kind(estimate: Estimate, race: int) -> str:
    if estimate.known == "inferred":
        return SCORED if estimate.samples else UNSEEN
    return IN_RACE if estimate.samples >= race else AT_R
