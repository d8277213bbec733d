"""How numbers and provenance are put into words, the same in terminal, report and dashboard."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mordal_optuna.search.ranking import Estimate
    from mordal_optuna.search.result import FurtherScore, StudyResult


def percent(value: float) -> str:
    """A score on 0..1 as percent points."""
    return f"{100 * value:.1f}"


def interval(estimate: Estimate) -> str:
    """The interval of an estimate."""
    return f"{percent(estimate.low)} to {percent(estimate.high)}"


def known(estimate: Estimate) -> str:
    """How an estimate is known, and from how much training."""
    if estimate.known == "measured":
        return f"measured at {estimate.samples:,}"
    if estimate.known == "extrapolated":
        flat = " (flat)" if estimate.rising else ""
        return f"extrapolated from {estimate.samples:,}{flat}"
    if estimate.samples:
        return f"inferred from {estimate.samples:,}"
    return "inferred from its cluster"


def headline(result: StudyResult) -> str:
    """The answer in one sentence, with how sure it is."""
    winner = result.winner
    others = len(result.tie_set) - (winner.candidate in result.tie_set)
    certainty = (
        "no other candidate comes within its noise"
        if not others
        else f"{others} other candidate{'s' if others > 1 else ''} cannot be told from the best"
    )
    curve = result.curves.get(winner.candidate, ())
    unread = drawn(curve[-1].guessed if curve else None)
    return (
        f"{winner.candidate}: {percent(winner.value)} % on {result.task} "
        f"({interval(winner)}, {known(winner)} samples{unread}); {certainty}."
    )


def drawn(guessed: float | None) -> str:
    """How many answers the task could not read, where it draws one at random instead."""
    return (
        "" if guessed is None else f", {100 * guessed:.0f} % of the answers unreadable and drawn"
    )


def further(score: FurtherScore) -> str:
    """The winner's score on another task."""
    return (
        f"{score.task}: {percent(score.value)} ± {percent(score.stderr)} % for the winner at "
        f"{score.samples:,} samples ({score.documents} documents{drawn(score.guessed)})"
    )


def cost_sentence(result: StudyResult) -> str:
    """The cost against the grid."""
    runs = result.full_runs
    if runs is None:
        return "not known; the scores were reported without the device-seconds they took."
    spent = f"{runs:.2f} full-run equivalents ({result.costs.total:.0f} device-seconds)"
    if result.method == "grid":
        return f"{spent} for the {result.grid_runs} candidates of the grid, every rung scored."
    gain = result.grid_runs / runs
    return f"{spent}, where the grid takes {result.grid_runs}: {gain:.1f} times less."


def candidate_cost(result: StudyResult, estimate: Estimate) -> str:
    """Device-seconds of a candidate."""
    trained = bool(result.curves.get(estimate.candidate))
    return "not known" if trained and not estimate.seconds else f"{estimate.seconds:.1f}"


def ending(result: StudyResult) -> str:
    """Why the search ended."""
    return result.stopped_because or "it has not ended yet; this is what is known so far"
