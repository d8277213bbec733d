"""Why each pair was dropped, in words that follow from its scores and those of the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mordal_optuna.reporting import words

if TYPE_CHECKING:
    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.ranking import Estimate
    from mordal_optuna.search.standings import Standing
    from mordal_optuna.study.result import StudyResult


def why(result: StudyResult, estimate: Estimate) -> str:
    """Why a pair won, was dropped, or is not decided yet: a clause without a full stop.

    Args:
        result: result of a finished or unfinished study.
        estimate: estimate of one pair of its ranking.
    """
    candidate = estimate.candidate
    if candidate == result.winner.candidate:
        return "the winner" if result.final else "leads so far"
    if candidate in result.given_up:
        return f"given up: {result.given_up[candidate]}"
    standing = result.standings[candidate]
    compared = _compared(standing)
    if standing.group == "tied":
        return f"not told apart from the winner: {compared}"
    if candidate not in result.curves:
        return _untrained(result, estimate)
    beyond = _beyond(standing)
    stopped = _stopped(result, candidate)
    if beyond:
        return f"{compared}; {stopped}"
    return f"{stopped}; {_chance(estimate, result)}" + (f"; {compared}" if compared else "")


def _beyond(standing: Standing) -> bool:
    """Whether the winner's lead is more than noise explains."""
    contrast, margin = standing.contrast, standing.margin
    return contrast is not None and margin is not None and contrast.difference > margin


def _compared(standing: Standing) -> str:
    """A pair beside the winner at the same rung; empty without a common rung."""
    contrast, margin = standing.contrast, standing.margin
    if contrast is None or margin is None:
        return ""
    points = 100 * abs(contrast.difference)
    side = "above" if contrast.difference < 0 else "below"
    more = "more than" if _beyond(standing) else "within"
    return (
        f"{points:.1f} points {side} the winner at {contrast.samples:,} samples, {more} the "
        f"{100 * margin:.1f} that noise explains"
    )


def _stopped(result: StudyResult, candidate: Candidate) -> str:
    """Where a pair stopped, and how it stood among the pairs that were scored there."""
    last = result.curves[candidate][-1]
    scores = {
        other: m.score
        for other, points in result.curves.items()
        for m in points
        if m.samples == last.samples
    }
    begin = "stopped" if result.stopped_because else "trained so far up to"
    text = f"{begin} {'at ' if result.stopped_because else ''}{last.samples:,} samples"
    if len(scores) == 1:
        return text
    place = 1 + sum(score > last.score for score in scores.values())
    text += f", place {place} of {len(scores)} there"
    further = sum(result.curves[other][-1].samples > last.samples for other in scores)
    return f"{text} ({further} went on)" if further else text


def _untrained(result: StudyResult, estimate: Estimate) -> str:
    """Why a pair was never trained: its cluster's medoid, or its estimate from other pairs."""
    text = "never trained" if result.stopped_because else "not trained yet"
    medoid = _medoid(result, estimate.candidate)
    if medoid is not None and medoid != estimate.candidate and medoid in result.curves:
        text += f"; {medoid}, which stands for its cluster, {_stopped(result, medoid)}"
    if estimate.provenance == "none":
        return text
    return f"{text}; {_chance(estimate, result)}"


def _medoid(result: StudyResult, candidate: Candidate) -> Candidate | None:
    if result.representation is None:
        return None
    return result.representation.tree.cluster_of(candidate).medoid


def _chance(estimate: Estimate, result: StudyResult) -> str:
    """A pair's estimate, and how probable it is that it is the best."""
    gap = 100 * (result.winner.value - estimate.value)
    side = "below" if gap >= 0 else "above"
    text = f"estimated {abs(gap):.1f} points {side} the winner"
    best = words.best_percent(estimate)
    return f"{text}, the best pair with probability {best} %" if best else text
