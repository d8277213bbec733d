"""How numbers and provenance are put into words, the same in terminal, report and dashboard."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mordal_optuna.search.curves import Measurement
    from mordal_optuna.search.ranking import Estimate
    from mordal_optuna.search.standings import Group, Standing
    from mordal_optuna.study.result import Challenger, FurtherScore, StudyResult

# What each group of the ranking is, as headings say it.
GROUPS: dict[Group, str] = {
    "tied": "within noise of the winner, measured side by side",
    "open": "may be the best: estimated, not measured as far as the winner",
    "untested": "hardly tested: too few scores to tell, and a small chance of being the best",
    "worse": "worse than the winner",
}
# Normal quantile of a two-sided 95 % interval.
_Z95 = 1.959964
# Costs that differ by less than this share are called about the same.
_SAME = 0.05


def percent(value: float) -> str:
    """A score on 0..1 as percent points."""
    return f"{100 * value:.1f}"


def score(value: float, stderr: float | None, documents: int | None) -> str:
    """A measured score in percent, with how sure it is.

    Where all documents are right, or all wrong, their spread says nothing: Wilson's 95 % interval
    of such a share takes its place.
    """
    if stderr is None:
        return f"{percent(value)} %"
    if stderr == 0 and documents:
        low, high = _wilson(value, documents)
        return f"{percent(value)} % ({percent(low)} to {percent(high)})"
    return f"{percent(value)} ± {percent(stderr)} %"


def _wilson(share: float, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share (Wilson 1927)."""
    scale = 1 + _Z95**2 / count
    centre = (share + _Z95**2 / (2 * count)) / scale
    half = _Z95 * math.sqrt(share * (1 - share) / count + _Z95**2 / (4 * count**2)) / scale
    return max(0.0, centre - half), min(1.0, centre + half)


def measured(measurement: Measurement, task: str) -> str:
    """A score and the samples it was measured after."""
    shown = score(measurement.score, measurement.stderr, measurement.documents)
    return f"{shown} on {task}, measured at {measurement.samples:,} samples"


def interval(estimate: Estimate) -> str:
    """The interval of an estimate."""
    return f"{percent(estimate.low)} to {percent(estimate.high)}"


def estimated(estimate: Estimate) -> str:
    """An estimate with its interval."""
    return f"{percent(estimate.value)} ({interval(estimate)})"


def known(estimate: Estimate) -> str:
    """How an estimate is known, and from how much training."""
    if estimate.known == "measured":
        return f"measured at {estimate.samples:,}"
    if estimate.known == "extrapolated":
        flat = " (flat)" if estimate.rising else ""
        return f"extrapolated from {estimate.samples:,}{flat}"
    if estimate.samples:
        return f"inferred from {estimate.samples:,}"
    return "inferred from other pairs"


def last_score(result: StudyResult, estimate: Estimate) -> str:
    """A pair's score at its highest rung; a dash where it was never trained."""
    curve = result.curves.get(estimate.candidate)
    return f"{percent(curve[-1].score)} at {curve[-1].samples:,}" if curve else "-"


def chance(estimate: Estimate) -> str:
    """The probability of being the best pair, in percent; empty where it was not asked for."""
    if estimate.best is None:
        return ""
    return "<.5" if 0 < estimate.best < 0.005 else f"{100 * estimate.best:.0f}"


def against(standing: Standing, own: Estimate) -> str:
    """A pair's score less the winner's, with the margin that noise allows, in points."""
    seen, margin = standing.contrast, standing.margin
    if seen is None or margin is None:
        return ""
    at = "" if seen.samples == own.samples else f" at {seen.samples:,}"
    return f"{-100 * seen.difference:+.1f} ± {100 * margin:.1f}{at}"


def headline(result: StudyResult) -> str:
    """The answer in a sentence or two: what was measured, and what follows from it."""
    winner, shown = result.winner, result.measured
    unread = drawn(shown.guessed)
    if result.final:
        begin = f"{winner.candidate}: {measured(shown, result.task)}{unread}"
    else:
        begin = (
            f"none yet; so far {winner.candidate} leads: {measured(shown, result.task)}{unread}"
        )
    return f"{begin}. {projection(result)}."


def projection(result: StudyResult) -> str:
    """What is believed of the winner at D.

    Where it was measured there, it differs from that score: the best of many scores owes some of
    its lead to noise, and other pairs tell of its parts.
    """
    winner = result.winner
    if result.measured.samples == result.full_samples:
        what = "All scores together say"
    else:
        what = f"Projected to all {result.full_samples:,} samples, which the search has not run:"
    best = "" if winner.best is None else f"; the best pair with probability {winner.best:.2f}"
    return f"{what} {percent(winner.value)} % ({interval(winner)}){best}"


def ties(result: StudyResult) -> str:
    """Who is within noise of the winner, and what telling them apart would cost."""
    others = [str(e.candidate) for e in result.group("tied")[1:]]
    if not others:
        return "No other measured pair is within noise of it."
    count = f"{len(others)} other pair{'s are' if len(others) > 1 else ' is'}"
    return f"{count} within noise of it: {_listed(others)}; {settling(result)}."


def settling(result: StudyResult) -> str:
    """What it takes to tell the tied apart."""
    if result.settling_seconds is None:
        return "what telling them apart would cost is not known"
    if result.settling_seconds > 0:
        return f"training them all on all samples takes about {duration(result.settling_seconds)}"
    return "all are trained on all samples, so only more documents or random seeds tell them apart"


def may_be_best(result: StudyResult) -> str:
    """How many pairs may be the best beside those measured; empty where there are none."""
    found = result.group("open")
    if not found:
        return ""
    together = sum(e.best or 0.0 for e in found)
    one = len(found) == 1
    return (
        f"{len(found)} pair{'' if one else 's'} trained on fewer samples may be the best, "
        f"{'' if one else 'together '}with probability {together:.2f}."
    )


def challenger(found: Challenger) -> str:
    """A pair that is estimated above the winner, and the price of measuring it."""
    own = found.estimate
    price = (
        "what measuring it would cost is not known"
        if found.seconds is None
        else f"about {duration(found.seconds)} more would measure it as far as the winner"
    )
    return (
        f"{own.candidate} is estimated higher: {percent(own.value)} % ({interval(own)}, "
        f"{known(own)}{' samples' if own.samples else ''}); {price}."
    )


def duration(seconds: float) -> str:
    """Device time in the unit that suits it."""
    if seconds < 90:  # noqa: PLR2004 - a minute and a half
        return f"{seconds:.0f} s"
    if seconds < 5400:  # noqa: PLR2004 - an hour and a half
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def drawn(guessed: float | None) -> str:
    """How many answers the task could not read, where it draws one at random instead."""
    return (
        "" if guessed is None else f", {100 * guessed:.0f} % of the answers unreadable and drawn"
    )


def further(found: FurtherScore) -> str:
    """The winner's score on another task."""
    scored = found.measurement
    shown = score(scored.score, scored.stderr, scored.documents)
    return (
        f"{found.task}: {shown} for the winner at {scored.samples:,} samples "
        f"({scored.documents} documents{drawn(scored.guessed)})"
    )


def cost_sentence(result: StudyResult) -> str:
    """The cost against the grid."""
    runs = result.full_runs
    if runs is None:
        return "not known; the scores were reported without the device-seconds they took."
    spent = f"{runs:.2f} full-run equivalents ({result.costs.total:.0f} device-seconds)"
    pairs = result.grid_runs
    reused = (
        f" Results found from other studies ({result.costs.reused:.0f} device-seconds) are not "
        "counted."
        if result.costs.reused
        else ""
    )
    if result.method == "grid":
        return f"{spent}: {pairs} pairs of the grid, every rung scored.{reused}"
    grid = f"training all {pairs} pairs on all samples and scoring each once takes {pairs}"
    return f"{spent}; {grid}: {compared(pairs, runs)}.{reused}"


def compared(grid: float, spent: float) -> str:
    """A search's cost beside the grid's, both in the same unit and above 0."""
    if abs(grid / spent - 1) < _SAME:
        return "about the same"
    return f"{grid / spent:.1f} times less" if spent < grid else f"{spent / grid:.1f} times more"


def candidate_cost(result: StudyResult, estimate: Estimate) -> str:
    """Device-seconds of a candidate."""
    trained = bool(result.curves.get(estimate.candidate))
    return "not known" if trained and not estimate.seconds else f"{estimate.seconds:.1f}"


def ending(result: StudyResult) -> str:
    """Why the search ended."""
    return result.stopped_because or "it has not ended yet; this is what is known so far"


def _listed(names: Sequence[str], most: int = 6) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
