"""Groups of the ranking: how often the first two contain the best pair, and how large they are.

A search on a replicate receives the values of the replicate's documents, as a real search receives
them from evaluations, so that pairs are compared document by document. The best pair is that of
the replicate's truth, the mean over runs (see `bootstrap`). The winner is compared with the same
run trained fully, and with the truth on all documents.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.minigrid.tables.bootstrap import Resampler
from mordal_optuna.replay.light import run_light
from mordal_optuna.replay.run import method_settings, set_up
from mordal_optuna.search.history import History
from mordal_optuna.search.standings import GROUPS, standings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.minigrid.tables.bootstrap import Replicate
    from benchmarks.minigrid.tables.data import TaskData
    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.plan import Plan
    from mordal_optuna.search.ranking import Estimate
    from mordal_optuna.search.standings import Standing


@dataclass(frozen=True)
class Ties:
    """Figures of the searches on one task, all on 0..1 unless they count pairs.

    Attributes:
        held: share of searches whose first two groups contain the best pair by the truth.
        tied: median number of pairs in the first group.
        open: median number of pairs in the second group.
        untested: median number of pairs in the third group.
        worse: median number of pairs in the fourth group.
        said: mean probability of being the best that the search gives the winner.
        found: share of searches whose winner is the best pair.
        paired: mean standard error of the winner's lead over pairs measured at the same rung.
        unpaired: mean standard error of the same leads from two scores' separate errors.
        error: mean of the winner's estimate less its score at r = 1 on the replicate, signed.
        full_error: mean of the winner's estimate less its truth on all documents.
        luck: mean of the winner's measured score less the mean over its runs at the same rung, on
            all documents.
        challenged: share of searches in which a pair trained on fewer samples has a higher
            estimate than the winner.
    """

    held: float
    tied: float
    open: float
    untested: float
    worse: float
    said: float
    found: float
    paired: float
    unpaired: float
    error: float
    full_error: float
    luck: float
    challenged: float


def ties(
    data: TaskData, *, replicates: int, method: str = "mordal", budget: float | None = None
) -> Ties:
    """Search all replicates of a task.

    Args:
        data: the task.
        replicates: number of bootstraps.
        method: name of the method, which must be a plan.
        budget: limit in full runs; None for none.
    """
    resampler = Resampler(data)
    settings = method_settings(method)
    rows = []
    for number in range(replicates):
        seen = resampler.replicate(number)
        plan = set_up(seen.grid, method, settings, number, budget).plan
        rows.append(_judged(data, plan, resampler, number, seen))
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    middle = {name: float(np.median(columns.pop(name))) for name in GROUPS}
    del middle["failed"]  # no pair fails in a replay
    means = {name: float(np.nanmean(column)) for name, column in columns.items()}
    return Ties(**middle, **means)


def _judged(
    data: TaskData, plan: Plan, resampler: Resampler, number: int, seen: Replicate
) -> dict[str, float]:
    grid = seen.grid
    history = with_answers(run_light(plan, grid).history, resampler, number)
    posterior = plan.ranker.posterior(history)
    ranking = plan.ranker.rank_with_chances(history, posterior)
    winner = plan.winner(history)
    assert winner is not None
    stand = standings(plan, history, ranking, winner, run_noise=posterior.run_noise)
    best = max(grid.candidates, key=seen.truth.__getitem__)
    estimate = next(e for e in ranking if e.candidate == winner)
    top = history.of(winner).measurements[-1]
    true_curve = data.truth[grid.candidates.index(winner)]
    sizes = {group: float(_count(stand, group)) for group in GROUPS}
    return {
        **sizes,
        "held": float(stand[best].group in ("tied", "open")),
        "said": estimate.best or 0.0,
        "found": float(best == winner),
        **_errors(stand, history),
        "error": estimate.value - grid.truth(winner),
        "full_error": estimate.value - float(true_curve[-1]),
        "luck": top.score - float(true_curve[data.samples.index(top.samples)]),
        "challenged": float(_is_challenged(ranking, estimate)),
    }


def with_answers(history: History, resampler: Resampler, number: int) -> History:
    """A history whose scores have the values of the replicate's documents.

    Args:
        history: the history.
        resampler: resampler of the task.
        number: number of the replicate.
    """
    candidates = {}
    for candidate, before in history.candidates.items():
        measurements = tuple(
            replace(m, answers=resampler.answers(number, candidate, m.samples).packed())
            for m in before.measurements
        )
        candidates[candidate] = replace(before, measurements=measurements)
    return History(candidates)


def _count(stand: dict[Candidate, Standing], group: str) -> int:
    return sum(standing.group == group for standing in stand.values())


def _errors(stand: dict[Candidate, Standing], history: History) -> dict[str, float]:
    """Mean standard errors of the winner's lead over its ties; NaN without ties."""
    paired, unpaired = [], []
    winner = next(iter(stand))
    for candidate, standing in stand.items():
        if standing.contrast and standing.group == "tied":
            paired.append(standing.contrast.stderr)
            at = [history.of(c).at(standing.contrast.samples) for c in (winner, candidate)]
            first, second = (m.noise for m in at if m)
            unpaired.append(float(np.hypot(first, second)))
    return {
        "paired": float(np.mean(paired)) if paired else np.nan,
        "unpaired": float(np.mean(unpaired)) if unpaired else np.nan,
    }


def _is_challenged(ranking: Sequence[Estimate], winner: Estimate) -> bool:
    return any(e.value > winner.value and e.samples < winner.samples for e in ranking)
