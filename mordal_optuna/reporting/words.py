"""Numbers and results as text, the same in the terminal, the report and the dashboard."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mordal_optuna.study.times import COMPARING, PARTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mordal_optuna.search.curves import Measurement
    from mordal_optuna.search.ranking import Estimate
    from mordal_optuna.search.standings import Group, Standing
    from mordal_optuna.study.costs import Costs
    from mordal_optuna.study.result import Challenger, FurtherScore, StudyResult
    from mordal_optuna.study.times import Times

# Heading of each group of the ranking.
GROUPS: dict[Group, str] = {
    "tied": "within noise of the winner, measured side by side",
    "open": "may be the best: estimated, not measured as far as the winner",
    "untested": "hardly tested: too few scores to tell, and a small chance of being the best",
    "worse": "worse than the winner",
    "failed": "given up: failed as often as the study allows",
}
# Label of each part of the costs, in the order in which they are shown.
COST_PARTS = {
    "features": "features",
    "similarity": "similarity",
    "warmup": "warm-up",
    "training": "training",
    "evaluation": "evaluation",
    "lost": "failed and lost",
}
# Normal quantile of a two-sided 95 % interval.
_Z95 = 1.959964
# Costs that differ by less than this share are called about the same.
_SAME = 0.05


def percent(value: float) -> str:
    """A number on 0..1 in percent, without the sign."""
    return f"{100 * value:.1f}"


def score(value: float, stderr: float | None, documents: int | None) -> str:
    """A measured score in percent with its standard error.

    If all documents are right, or all wrong, their standard error is 0 and says nothing; Wilson's
    95 % interval is shown instead.

    Args:
        value: score, 0..1.
        stderr: standard error of the score; None if it is not known.
        documents: number of documents; None if it is not known.
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
    """A score with its task and the number of samples it was measured at."""
    shown = score(measurement.score, measurement.stderr, measurement.documents)
    return f"{shown} on {task}, measured at {measurement.samples:,} samples"


def interval(estimate: Estimate) -> str:
    """The interval of an estimate, in percent."""
    if estimate.provenance == "none":
        return "-"
    return f"{percent(estimate.low)} to {percent(estimate.high)}"


def estimated(estimate: Estimate) -> str:
    """An estimate with its interval, in percent; a dash if there is none."""
    if estimate.provenance == "none":
        return "-"
    return f"{percent(estimate.value)} ({interval(estimate)})"


def only_estimate(estimate: Estimate) -> str:
    """An estimate without its interval, in percent; a dash if there is none."""
    return "-" if estimate.provenance == "none" else percent(estimate.value)


def provenance(estimate: Estimate) -> str:
    """Provenance of an estimate: measured, extrapolated or inferred, and from how many samples."""
    if estimate.provenance == "none":
        return "no estimate"
    if estimate.provenance == "measured":
        return f"measured at {estimate.samples:,}"
    if estimate.provenance == "extrapolated":
        flat = " (flat)" if estimate.rising else ""
        return f"extrapolated from {estimate.samples:,}{flat}"
    if estimate.samples:
        return f"inferred from {estimate.samples:,}"
    return "inferred from other pairs"


def last_score(result: StudyResult, estimate: Estimate) -> str:
    """A pair's score at its highest rung; a dash if it was never trained."""
    curve = result.curves.get(estimate.candidate)
    return f"{percent(curve[-1].score)} at {curve[-1].samples:,}" if curve else "-"


def best_percent(estimate: Estimate) -> str:
    """Probability of being the best pair, in percent; empty if it was not computed."""
    if estimate.best is None:
        return ""
    return "<.5" if 0 < estimate.best < 0.005 else f"{100 * estimate.best:.0f}"


def to_winner(standing: Standing, estimate: Estimate) -> str:
    """A pair's score less the winner's ± the margin of noise, in points; empty if not compared.

    Args:
        standing: comparison of the pair with the winner.
        estimate: estimate of the pair; a comparison below its highest rung names the rung.
    """
    contrast, margin = standing.contrast, standing.margin
    if contrast is None or margin is None:
        return ""
    at = "" if contrast.samples == estimate.samples else f" at {contrast.samples:,}"
    return f"{-100 * contrast.difference:+.1f} ± {100 * margin:.1f}{at}"


def headline(result: StudyResult) -> str:
    """The winner, its measured score and its estimate, in one or two sentences."""
    shown = f"{measured(result.measured, result.task)}{drawn(result.measured.guessed)}"
    winner = result.winner.candidate
    begin = f"{winner}: {shown}" if result.final else f"none yet; best so far {winner}: {shown}"
    return f"{begin}. {projection(result)}."


def projection(result: StudyResult) -> str:
    """The winner's estimate after all D samples.

    It differs from the measured score even at D: the best of many scores owes some of its lead to
    noise, and the scores of other pairs say something about the winner's encoder and LLM.
    """
    winner = result.winner
    if result.measured.samples == result.full_samples:
        basis = "Estimate from all scores of the pool"
    else:
        basis = f"Projected to all {result.full_samples:,} samples, on which it was not trained"
    best = "" if winner.best is None else f"; the best pair with probability {winner.best:.2f}"
    return f"{basis}: {percent(winner.value)} % ({interval(winner)}){best}"


def ties(result: StudyResult) -> str:
    """Pairs within noise of the winner, and the cost of telling them apart."""
    others = [str(e.candidate) for e in result.group("tied")[1:]]
    if not others:
        return "No other measured pair is within noise of the winner."
    count = f"{len(others)} other pair{'s are' if len(others) > 1 else ' is'}"
    return f"{count} within noise of the winner: {_listed(others)}; {settling(result)}."


def settling(result: StudyResult) -> str:
    """What it takes to tell pairs within noise apart."""
    if result.settling_seconds is None:
        return "the cost of telling them apart is not known"
    if result.settling_seconds > 0:
        return f"training them all on all samples takes about {duration(result.settling_seconds)}"
    return (
        "all are trained on all samples, so only more documents or more random seeds can tell "
        "them apart"
    )


def may_be_best(result: StudyResult) -> str:
    """Number and probability of less trained pairs that may be the best; empty without any."""
    pairs = result.group("open")
    if not pairs:
        return ""
    together = sum(e.best or 0.0 for e in pairs)
    one = len(pairs) == 1
    return (
        f"{len(pairs)} pair{'' if one else 's'} trained on fewer samples may be the best, "
        f"{'' if one else 'together '}with probability {together:.2f}."
    )


def challenger(pair: Challenger) -> str:
    """A pair that is estimated above the winner, and the cost of measuring it."""
    estimate = pair.estimate
    cost = (
        "the cost of measuring it is not known"
        if pair.seconds is None
        else f"about {duration(pair.seconds)} more would measure it as far as the winner"
    )
    return (
        f"{estimate.candidate} is estimated higher: {percent(estimate.value)} % "
        f"({interval(estimate)}, {provenance(estimate)}{' samples' if estimate.samples else ''}); "
        f"{cost}."
    )


def duration(seconds: float) -> str:
    """Device time in seconds, minutes or hours."""
    if seconds < 90:  # noqa: PLR2004 - a minute and a half
        return f"{seconds:.0f} s"
    if seconds < 5400:  # noqa: PLR2004 - an hour and a half
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def drawn(guessed: float | None) -> str:
    """Share of answers that the task could not read and drew at random; empty if it never does."""
    if guessed is None:
        return ""
    return f", {100 * guessed:.0f} % of the answers unreadable and drawn at random"


def further(other: FurtherScore) -> str:
    """The winner's score on another task."""
    scored = other.measurement
    shown = score(scored.score, scored.stderr, scored.documents)
    return (
        f"{other.task}: {shown} for the winner at {scored.samples:,} samples "
        f"({scored.documents} documents{drawn(scored.guessed)})"
    )


def cost_sentence(result: StudyResult) -> str:
    """The cost of the study, compared with that of the grid."""
    runs = result.full_runs
    if runs is None:
        return "not known; the scores were reported without their device-seconds."
    spent = f"{runs:.2f} full-run equivalents ({result.costs.total:.0f} device-seconds)"
    pairs = result.grid_runs
    reused = (
        f" Results reused from other studies ({result.costs.reused:.0f} device-seconds) are not "
        "counted."
        if result.costs.reused
        else ""
    )
    if runs == 0:
        return f"{spent}: nothing was trained or scored again.{reused}"
    if result.method == "grid":
        return f"{spent}: {pairs} pairs of the grid, every rung scored.{reused}"
    grid = f"training all {pairs} pairs on all samples and scoring each once takes {pairs}"
    return f"{spent}; {grid}, so the search cost {compared(pairs, runs)}.{reused}"


def compared(grid: float, spent: float) -> str:
    """The cost of a search relative to that of the grid.

    Args:
        grid: cost of the grid, above 0.
        spent: cost of the search in the same unit, above 0.
    """
    if abs(grid / spent - 1) < _SAME:
        return "about the same"
    return f"{grid / spent:.1f} times less" if spent < grid else f"{spent / grid:.1f} times more"


def candidate_cost(result: StudyResult, estimate: Estimate) -> str:
    """Device-seconds spent on a candidate; `not known` if its scores came without costs.

    They are 0 if all of its scores were carried over from a study that has paid for them.
    """
    curve = result.curves.get(estimate.candidate, ())
    if curve and not estimate.seconds and not any(m.train_seconds + m.eval_seconds for m in curve):
        return "not known"
    return f"{estimate.seconds:.1f}"


def ending(result: StudyResult) -> str:
    """The reason why the search ended."""
    return result.stopped_because or "the search has not ended; this is its result so far"


def cost_parts(costs: Costs) -> list[tuple[str, float]]:
    """Label and device-seconds of each part of the costs; lost time only if there was any."""
    parts = [(label, getattr(costs, name)) for name, label in COST_PARTS.items()]
    return parts if costs.lost else parts[:-1]


def time_parts(times: Times) -> list[tuple[str, float, float]]:
    """Label, device-seconds and share of each part that took time, then the total."""
    labels = {COMPARING: "comparing models", **PARTS}
    parts = [(labels[name], seconds) for name, seconds in times.seconds.items() if seconds]
    return [(label, s, s / times.total) for label, s in [*parts, ("total", times.total)]]


def training_speed(times: Times) -> str:
    """Speed of the training and what limits it, as far as known; empty without training."""
    if times.tokens_per_second is None:
        return ""
    texts = [f"Training: {times.tokens_per_second:,.0f} tokens a device-second"]
    if times.of_peak is not None:
        texts.append(f"{percent(times.of_peak)} % of the device's peak")
    if times.padding is not None:
        texts.append(f"{percent(times.padding)} % padding")
    if times.waiting is not None:
        texts.append(f"{percent(times.waiting)} % of the time waiting for data")
    return ", ".join(texts) + "."


def untimed(times: Times) -> str:
    """How many rungs the times lack; empty if none."""
    if not times.without:
        return ""
    return f"{times.without} of {times.rungs + times.without} rungs were measured without times."


def _listed(names: Sequence[str], most: int = 6) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
