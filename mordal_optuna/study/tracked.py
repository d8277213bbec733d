"""What experiment trackers are told of a pair beside its own scores: rank, estimate and cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mordal_optuna.study.result import costs_so_far

if TYPE_CHECKING:
    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.history import History
    from mordal_optuna.search.plan import Plan


def tracked_standing(plan: Plan, history: History, candidate: Candidate) -> dict[str, float]:
    """Numbers about a pair among all pairs that have a score now.

    Later scores of other pairs change them; the report and `mordal status` have the present ones.

    Args:
        plan: plan of the study.
        history: history with the pair's newest score.
        candidate: the pair.

    Returns:
        `score`, the one that is maximised, 0 to 1, with its standard error `stderr`, where the
        newest rung is scored on all tasks; `rank` among the pairs with scores, from 1, and their
        number `ranked`; `estimate/score` after all samples with `estimate/low` and
        `estimate/high`, 0 to 1; `device_seconds/pair` spent on the pair and
        `device_seconds/study` spent by the search on all pairs. Empty while the pair has no score
        on all of several tasks.
    """
    ranking = plan.ranker.rank_trained(history)
    places = {e.candidate: n for n, e in enumerate(ranking, start=1)}
    if candidate not in places:
        return {}
    estimate = ranking[places[candidate] - 1]
    record = history.of(candidate)
    newest = record.at(record.top)
    scored = {"score": newest.score} if newest else {}
    if newest and newest.stderr is not None:
        scored["stderr"] = newest.stderr
    return {
        **scored,
        "rank": places[candidate],
        "ranked": len(ranking),
        "estimate/score": estimate.value,
        "estimate/low": estimate.low,
        "estimate/high": estimate.high,
        "device_seconds/pair": estimate.seconds,
        "device_seconds/study": costs_so_far(history, None).total,
    }
