"""Every pair compared with the winner: tied within noise, open, untested, or worse.

Symbols:
    k     number of pairs that are compared with the winner
    a     1 - confidence
    z     normal quantile at 1 - a / k. One-sided, because only pairs that may be better than the
          winner must not be excluded; divided by k for all comparisons at once (multiple
          comparisons with the best, Hsu 1984, with Bonferroni's correction)
    e, h  error of a pair, and its run noise (standard deviation of ln error over random seeds)
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Literal

import numpy as np

from mordal_optuna.search.answers import Contrast, contrast
from mordal_optuna.search.bounds import require

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.history import CandidateHistory, History
    from mordal_optuna.search.plan import Plan
    from mordal_optuna.search.ranking import Estimate

# `tied`: measured like the finalists, and within noise of the winner. `open`: estimated from fewer
# samples or from other pairs, and possibly the best. `untested`: too few scores for a curve, and a
# small probability of being the best. `worse`: outside the noise, below the winner. `failed`:
# given up, since it has failed as often as the study allows.
Group = Literal["tied", "open", "untested", "worse", "failed"]
GROUPS: tuple[Group, ...] = ("tied", "open", "untested", "worse", "failed")


@dataclass(frozen=True)
class Standing:
    """Result of the comparison of a pair with the winner.

    Attributes:
        group: see `Group`.
        contrast: the winner's score minus the pair's; None for the winner, and if no rung has
            scores of both.
        margin: largest difference that is within noise; None if `contrast` is None.
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
    weights: Mapping[str, float] | None = None,
    given_up: Collection[Candidate] = (),
) -> dict[Candidate, Standing]:
    """Compare every pair of the pool with the winner.

    The open pairs are the most probable best pairs among those not tied or worse: as many as bring
    the probability that the best pair is tied or open up to the confidence level, and all pairs
    that are estimated above the winner.

    Args:
        plan: plan of the search; its `close_rung`, confidence and number of points are used.
        history: history of the study.
        ranking: estimates of the whole pool, with probabilities of being the best.
        winner: pair that the others are compared with.
        run_noise: h, at least 0.
        weights: weight of each target task by its name; None or empty if there is one.
        given_up: pairs other than the winner that cannot be trained.

    Raises:
        SearchError: if the run noise is negative.
    """
    require(run_noise >= 0, "run_noise", run_noise, "at least 0")
    trained = [c for c, record in history.candidates.items() if record.top and c != winner]
    close = [c for c in trained if history.of(c).top >= plan.close_rung]
    compared = _contrasts(plan, history, winner, trained, run_noise, weights)
    compared |= _contrasts(plan, history, winner, close, run_noise, weights)
    result = {winner: Standing("tied")}
    for candidate in given_up:
        result[candidate] = Standing("failed", *compared.get(candidate, (None, None)))
    for candidate in (c for c in close if c not in result):
        comparison = compared.get(candidate)
        if comparison:
            difference, margin = comparison
            within = difference.difference <= margin
            if within or difference.samples == history.of(winner).top:
                result[candidate] = Standing("tied" if within else "worse", difference, margin)
    for candidate in _open(ranking, result, winner, plan.ranker.confidence):
        result[candidate] = Standing("open", *compared.get(candidate, (None, None)))
    for estimate in ranking:
        candidate = estimate.candidate
        if candidate not in result:
            tested = len(history.of(candidate).rungs) >= plan.ranker.points
            group: Group = "worse" if tested else "untested"
            result[candidate] = Standing(group, *compared.get(candidate, (None, None)))
    return result


def _contrasts(
    plan: Plan,
    history: History,
    winner: Candidate,
    others: Sequence[Candidate],
    run_noise: float,
    weights: Mapping[str, float] | None,
) -> dict[Candidate, tuple[Contrast, float]]:
    """The winner's contrasts with other pairs, each with its margin for all comparisons."""
    winner_record, with_noise = history.of(winner), {}
    for candidate in others:
        record = history.of(candidate)
        difference = contrast(winner_record.measurements, record.measurements, weights)
        if difference:
            noise = _noise(difference, (winner_record, record), run_noise)
            with_noise[candidate] = (difference, noise)
    z = NormalDist().inv_cdf(1 - (1 - plan.ranker.confidence) / max(len(with_noise), 1))
    return {c: (difference, z * noise) for c, (difference, noise) in with_noise.items()}


def _noise(difference: Contrast, records: Sequence[CandidateHistory], run_noise: float) -> float:
    """Standard error of a contrast due to documents and to the random seeds of both runs."""
    errors = [m.error for record in records if (m := record.at(difference.samples))]
    return float(np.sqrt(difference.stderr**2 + sum((run_noise * error) ** 2 for error in errors)))


def _open(
    ranking: Sequence[Estimate],
    settled: Mapping[Candidate, Standing],
    winner: Candidate,
    confidence: float,
) -> list[Candidate]:
    """The open pairs among those without a standing, the most probable best pair first."""
    value = {e.candidate: e.value for e in ranking}[winner]
    probability = sum(
        e.best or 0.0
        for e in ranking
        if e.candidate in settled and settled[e.candidate].group == "tied"
    )
    candidates = []
    rest = [e for e in ranking if e.candidate not in settled]
    for estimate in sorted(rest, key=lambda e: -(e.best or 0.0)):  # stable
        if probability < confidence or estimate.value > value:
            candidates.append(estimate.candidate)
            probability += estimate.best or 0.0
    return candidates


def in_order(
    ranking: Sequence[Estimate], standing_of: Mapping[Candidate, Standing], winner: Candidate
) -> tuple[Estimate, ...]:
    """The ranking in the order in which it is shown: the winner, then group by group.

    Inside a group the estimates descend; open pairs are ordered by their probability of being the
    best. So no pair with a mere estimate is shown above a pair that is measured like the winner.

    Args:
        ranking: estimates of the whole pool.
        standing_of: standing of every pair.
        winner: pair that is shown first.
    """

    def key(estimate: Estimate) -> tuple[bool, int, float, float]:
        group = standing_of[estimate.candidate].group
        chance = -(estimate.best or 0.0) if group == "open" else 0.0
        return (estimate.candidate != winner, GROUPS.index(group), chance, -estimate.value)

    return tuple(sorted(ranking, key=key))
