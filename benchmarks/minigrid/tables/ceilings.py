"""What any ranking can reach: a second run of the grid itself, and all pairs trained to r = 1/2.

Both are judged as methods are (see `bootstrap`): the same redrawn documents, redrawn seeds, the
same truth. They are rows of the methods' tables.

    second run      every pair trained fully with another seed, ranked by its score at r = 1. Only
                    a ranking that removes noise from its scores can be expected to be better.
                    Against the truth it ranks as the method `grid` does, which is one run as
                    well; against the same run (`tau_same_run`) `grid` has tau 1, and the second
                    run shows how far a grid agrees with its own repetition.
    1/2             every pair trained on half of the samples and scored once, ranked by that score

Costs are those of a search that trains and scores these runs and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchmarks.minigrid.tables.bootstrap import Resampler, full_data
from benchmarks.minigrid.tables.methods import MethodResult, correlations, regret
from mordal_optuna.replay.costs import PARTS, projected_grid_seconds, search_costs
from mordal_optuna.search.history import CandidateHistory, History
from mordal_optuna.study.costs import Costs

if TYPE_CHECKING:
    from benchmarks.minigrid.tables.bootstrap import Replicate
    from benchmarks.minigrid.tables.data import TaskData
    from mordal_optuna.replay.grid import Grid

SECOND_RUN = "a second run of the grid"
AT_HALF = "all pairs at 1/2"
CEILINGS = (SECOND_RUN, AT_HALF)


def second_run(resampler: Resampler, number: int) -> np.ndarray:
    """Scores at r = 1 of another run of every pair on a replicate's documents, one per pair.

    Args:
        resampler: resampler of the task.
        number: number of the replicate.
    """
    return resampler.scores(number, run=1)[0][:, -1]


def at_half(grid: Grid) -> np.ndarray:
    """Scores at r = 1/2 of the run that searches see, one per pair.

    Args:
        grid: the replicate, or the full data.

    Raises:
        GridError: if the grid file has no score at half of the samples.
    """
    half = grid.full_samples // 2
    return np.array([grid.measurement(candidate, half).score for candidate in grid.candidates])


def run_ceilings(data: TaskData, *, replicates: int) -> dict[str, MethodResult]:
    """Both ceilings on one task, by name.

    On the full data there is no second run of every pair, so only its costs are given there.

    Args:
        data: the task.
        replicates: number of bootstraps.
    """
    resampler, whole = Resampler(data), full_data(data)
    full, half = data.grid.full_samples, data.grid.full_samples // 2
    second, halves = [], []
    for number in range(replicates):
        seen = resampler.replicate(number)
        second.append(_figures(second_run(resampler, number), seen, whole, full))
        halves.append(_figures(at_half(seen.grid), seen, whole, half))
    unknown = dict.fromkeys(second[0], None)
    known = {k: v for k, v in second[0].items() if k.startswith(("cost", "projected", "gain"))}
    ranked = at_half(data.grid)
    return {
        SECOND_RUN: MethodResult({**unknown, **known}, tuple(second), None),
        AT_HALF: MethodResult(
            _figures(ranked, whole, whole, half), tuple(halves), _picked(ranked, data.grid)
        ),
    }


def _figures(
    scores: np.ndarray, seen: Replicate, whole: Replicate, samples: int
) -> dict[str, float | None]:
    """Figures of a ranking by scores for which every pair was trained on some samples."""
    grid = whole.grid
    history = History(
        {c: CandidateHistory((grid.measurement(c, samples),)) for c in grid.candidates}
    )
    cost, projected = search_costs(grid, history, Costs(), Costs())
    assert projected is not None
    seconds = grid.full_run_seconds
    return {
        **correlations(scores.tolist(), seen),
        "regret": regret(whole.truth, _picked(scores, grid)),
        "rejected": 0.0,  # every pair is measured as far as asked for
        "gain": grid.grid_seconds / cost.total,
        "gain_projected": projected_grid_seconds(grid) / projected.total,
        "cost": cost.total / seconds,
        **{f"cost_{part}": getattr(cost, part) / seconds for part in PARTS},
        **{f"projected_{part}": getattr(projected, part) for part in PARTS},
    }


def _picked(scores: np.ndarray, grid: Grid) -> tuple[str, str]:
    best = grid.candidates[int(np.argmax(scores))]
    return best.vision_encoder, best.llm
