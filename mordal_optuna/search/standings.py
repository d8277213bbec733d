"""Where every pair stands beside the winner: within noise, still open, hardly tested, or worse.

Symbols:
    k     pairs that are compared with the winner
    a     1 - confidence
    z     normal quantile at 1 - a / k: one-sided, since nobody who is better than the winner is to
          be excluded, and divided by k for all of them at once (multiple comparisons with the
          best, Hsu 1984, in Bonferroni's form)
    e, h  error of a pair, and how far another random seed moves its ln error
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Literal

import numpy as np

from mordal_optuna.search.answers import Contrast, contrast

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.history import CandidateHistory, History
    from mordal_optuna.search.plan import Plan
    from mordal_optuna.search.ranking import Estimate

# `tied`: measured as the leaders are, and within noise of the winner. `open`: estimated from fewer
# samples, or from pairs that share a part, and may be the best. `untested`: too few scores to
# tell, and a small chance of being the best. `worse`: told apart from the winner.
Group = Literal["tied", "open", "untested", "worse"]
GROUPS: tuple[Group, ...] = ("tied", "open", "untested", "worse")


@dataclass(frozen=True)
class Standing:
    """One pair beside the winner.

    Attributes:
        group: see `Group`.
        contrast: the winner's score less the pair's; None where no rung has both, and for the
            winner itself.
        margin: difference up to which the pair is within noise; None as the contrast.
    """

    group: Group
    contrast: Contrast | None = None
    margin: float | None = None


def standings(
    plan: Plan,
    history: History,
    ranking: Sequence[Estimate],
    winner: Candidate,
    *,
    run_noise: float,
) -> dict[Candidate, Standing]:
    """Every pair of the pool.

    The open ones are the most probable to be best, as many as bring the probability that the best
    pair is tied or open up to the confidence; and all who are estimated above the winner.

    Args:
        plan: says how far the leaders are compared, and how sure it is to be.
        history: what is known.
        ranking: of the whole pool, with probabilities of being best.
        winner: the pair the others are compared with.
        run_noise: h.
    """
    trained = [c for c, known in history.candidates.items() if known.top and c != winner]
    close = [c for c in trained if history.of(c).top >= plan.close_rung]
    compared = _contrasts(plan, history, winner, trained, run_noise)
    compared |= _contrasts(plan, history, winner, close, run_noise)
    found = {winner: Standing("tied")}
    for candidate in close:
        seen = compared.get(candidate)
        if seen:
            difference, margin = seen
            within = difference.difference <= margin
            if within or difference.samples == history.of(winner).top:
                found[candidate] = Standing("tied" if within else "worse", difference, margin)
    for candidate in _open(ranking, found, winner, plan.ranker.confidence):
        found[candidate] = Standing("open", *compared.get(candidate, (None, None)))
    for estimate in ranking:
        candidate = estimate.candidate
        if candidate not in found:
            tested = len(history.of(candidate).measurements) >= plan.ranker.points
            group: Group = "worse" if tested else "untested"
            found[candidate] = Standing(group, *compared.get(candidate, (None, None)))
    return found


def _contrasts(
    plan: Plan,
    history: History,
    winner: Candidate,
    others: Sequence[Candidate],
    run_noise: float,
) -> dict[Candidate, tuple[Contrast, float]]:
    """Contrasts of the winner with others, and the margins that noise allows for all at once."""
    own, found = history.of(winner), {}
    for candidate in others:
        known = history.of(candidate)
        difference = contrast(own.measurements, known.measurements)
        if difference:
            found[candidate] = (difference, _noise(difference, (own, known), run_noise))
    z = NormalDist().inv_cdf(1 - (1 - plan.ranker.confidence) / max(len(found), 1))
    return {candidate: (seen, z * noise) for candidate, (seen, noise) in found.items()}


def _noise(seen: Contrast, pair: Sequence[CandidateHistory], run_noise: float) -> float:
    """Standard error of a contrast by documents and by the random seeds of both runs."""
    errors = [m.error for known in pair if (m := known.at(seen.samples))]
    return float(np.sqrt(seen.stderr**2 + sum((run_noise * error) ** 2 for error in errors)))


def _open(
    ranking: Sequence[Estimate],
    settled: Mapping[Candidate, Standing],
    winner: Candidate,
    confidence: float,
) -> list[Candidate]:
    """Those of the rest who may be best, the most probable first."""
    value = {e.candidate: e.value for e in ranking}[winner]
    mass = sum(
        e.best or 0.0
        for e in ranking
        if e.candidate in settled and settled[e.candidate].group == "tied"
    )
    found = []
    rest = [e for e in ranking if e.candidate not in settled]
    for estimate in sorted(rest, key=lambda e: -(e.best or 0.0)):  # stable
        if mass < confidence or estimate.value > value:
            found.append(estimate.candidate)
            mass += estimate.best or 0.0
    return found


def in_order(
    ranking: Sequence[Estimate], found: Mapping[Candidate, Standing], winner: Candidate
) -> tuple[Estimate, ...]:
    """The ranking as it is shown: the winner, then group by group.

    Inside a group the better estimate comes first; of those that are open, the more probable to
    be best. So no estimate stands above a pair that was measured as the winner was.
    """

    def key(estimate: Estimate) -> tuple[bool, int, float, float]:
        group = found[estimate.candidate].group
        chance = -(estimate.best or 0.0) if group == "open" else 0.0
        return (estimate.candidate != winner, GROUPS.index(group), chance, -estimate.value)

    return tuple(sorted(ranking, key=key))
