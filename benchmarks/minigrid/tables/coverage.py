"""How often 95 % intervals contain the truth, by kind of estimate.

An estimate of a search on a replicate is compared with the replicate's score at r = 1: the same
run, continued on the same documents. That is what an estimate predicts; the mean over runs, by
which rankings are judged (see `bootstrap`), is another quantity.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.minigrid.tables.bootstrap import Resampler
from mordal_optuna.replay.light import run_light
from mordal_optuna.replay.run import method_settings, set_up
from mordal_optuna.search.plan import PooledPlan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.minigrid.tables.data import TaskData
    from mordal_optuna.replay.grid import Grid
    from mordal_optuna.replay.simulate import SetUp
    from mordal_optuna.search.ranking import Estimate

# Sources of estimates: all scores together, as users see them; or each pair's own curve, by which
# the search decides.
TOGETHER, ALONE = "all scores together", "each pair's own curve"
COMPARED = (TOGETHER, ALONE)
IN_RACE, AT_R = "extrapolated, in the race", "extrapolated from R"
SCORED, UNSEEN = "inferred from scores", "inferred, never trained"
KINDS = (IN_RACE, AT_R, SCORED, UNSEEN)


@dataclass(frozen=True)
class Coverage:
    """Estimates of one kind.

    Attributes:
        share: share of all estimates of the searches, 0..1.
        covered: share whose interval contains the truth, 0..1.
        half_width: mean half width of the intervals, 0..1.
        error: mean absolute difference of estimate and truth, 0..1.
        bias: mean of estimate less truth, signed.
    """

    share: float
    covered: float
    half_width: float
    error: float
    bias: float


def coverage(data: TaskData, *, replicates: int) -> dict[str, dict[str, Coverage]]:
    """Coverage by source and kind of estimate, over the full data and replicates of a task.

    Args:
        data: the task.
        replicates: number of bootstraps.
    """
    resampler = Resampler(data)
    grids = [data.grid, *(resampler.grid(number) for number in range(replicates))]
    return covered(set_up(data.grid, "mordal", method_settings("mordal"), 0, None), grids)


def covered(setup: SetUp, grids: Sequence[Grid]) -> dict[str, dict[str, Coverage]]:
    """Coverage by source and kind of estimate, for one search on several grids of a pool."""
    plan = setup.plan
    assert isinstance(plan, PooledPlan)
    rows: dict[str, dict[str, list[tuple[float, ...]]]] = {
        source: defaultdict(list) for source in COMPARED
    }
    for grid in grids:
        history = run_light(plan, grid).history
        by_source = {TOGETHER: plan.ranking(history), ALONE: plan.ranker.rank_trained(history)}
        for source, estimates in by_source.items():
            for estimate in estimates:
                kind = _kind(estimate, plan.finish_rungs[0])
                rows[source][kind].append(_figures(estimate, grid.truth(estimate.candidate)))
    pairs = len(grids) * len(grids[0].candidates)
    return {
        source: {
            kind: Coverage(len(figures) / pairs, *np.mean(figures, axis=0).tolist())
            for kind, figures in by_kind.items()
        }
        for source, by_kind in rows.items()
    }


def _figures(estimate: Estimate, truth: float) -> tuple[float, ...]:
    apart = estimate.value - truth
    return (
        float(estimate.low <= truth <= estimate.high),
        (estimate.high - estimate.low) / 2,
        abs(apart),
        apart,
    )


def _kind(estimate: Estimate, race: int) -> str:
    if estimate.provenance == "inferred":
        return SCORED if estimate.samples else UNSEEN
    return IN_RACE if estimate.samples >= race else AT_R
