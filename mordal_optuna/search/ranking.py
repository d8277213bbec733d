"""Ranking: what is believed of every candidate at r = 1, and how it is known.

Symbols:
    y, s   predicted ln error of a candidate at r = 1, and its standard error
    n, D   samples of a candidate's highest rung, and of a full alignment
    d_k    how much the ln error of candidate k falls from n to D
    z      normal quantile of the confidence level
    g      spread of the candidates of one cluster around their mean, in ln error
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mordal_optuna.pool import Candidate
from mordal_optuna.search.curves import (
    VAGUE_SLOPE,
    Fit,
    fit_as_in_paper,
    fit_pool,
)
from mordal_optuna.search.history import History
from mordal_optuna.search.joint import (
    Posterior,
    independent_posterior,
    joint_posterior,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mordal_optuna.search.clusters import CandidateCluster, ClusterTree
    from mordal_optuna.search.curves import Measurement
    from mordal_optuna.search.history import CandidateHistory

Known = Literal["measured", "extrapolated", "inferred"]

# Spread of ln error inside a cluster before two of its candidates are known.
_SPREAD_PRIOR = 0.3
# Spread of the interaction of encoder and LLM in ln error, assumed where additivity is.
_INTERACTION = 0.1
# Stands for a candidate that is looked at alone.
_ANYONE = Candidate("", "")
# Histories whose estimates are kept. One step of a search asks for those of a few: all scores,
# and those below each rung of the race, which stay the same from step to step.
_KEPT = 8


@dataclass(frozen=True)
class Estimate:
    """What is believed of a candidate's score after a full alignment.

    Attributes:
        candidate: the pair.
        value: the estimate, 0..1.
        low: lower end of the interval.
        high: upper end of the interval.
        known: measured (fully trained), extrapolated (scored at as many rungs as a curve needs),
            inferred (from fewer, or from other pairs alone).
        samples: highest rung it was scored at; 0 if never trained.
        seconds: device-seconds spent on it.
        rising: its own points asked for an error that grows with data.
        best: probability of being the best pair of the pool; None where nobody asked for it.
    """

    candidate: Candidate
    value: float
    low: float
    high: float
    known: Known
    samples: int
    seconds: float
    rising: bool = False
    best: float | None = None


@dataclass(frozen=True)
class Belief:
    """An estimate on the scale it is computed on: ln error."""

    y: float
    s: float
    known: Known
    rising: bool = False


Beliefs = dict[Candidate, Belief]


class Ranker:
    """Turns a history into a ranking of the whole pool.

    The whole pool is ranked by all scores together (see `joint`). The trained alone, whom a search
    asks for at every step, are ranked by what is known of each: fully trained candidates by their
    score; those with p points or more by their own curve (see `curves.fit_pool`); those with fewer
    by how much the errors of the others fell over the same samples.

    Attributes:
        points: p, scores below D that make a curve.
        confidence: of all intervals, 0..1.
    """

    def __init__(
        self, tree: ClusterTree, full_samples: int, *, confidence: float = 0.95, points: int = 3
    ) -> None:
        """Rank a pool.

        Args:
            tree: the pool and its clusters.
            full_samples: D.
            confidence: of the intervals, 0..1.
            points: p, scores below D that make a curve, at least 2.
        """
        self._tree = tree
        self._full = full_samples
        self.points = points
        self.confidence = confidence
        self._z = NormalDist().inv_cdf(0.5 + confidence / 2)
        self._remember()

    def _remember(self) -> None:
        # A memory and not a state: estimates are a function of the history alone.
        self._trained = lru_cache(maxsize=_KEPT)(self._estimate_trained)

    def __getstate__(self) -> dict[str, Any]:
        # A copy has a memory of its own; this one cannot be pickled, and would be shared.
        return {name: value for name, value in vars(self).items() if name != "_trained"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._remember()

    def fits(self, history: History) -> dict[Candidate, Fit]:
        """The curves of all candidates with at least p points below the full alignment set."""
        points = {
            candidate: below
            for candidate, known in history.candidates.items()
            if len(below := self._below(known)) >= self.points
        }
        return fit_pool(points, least=self.points)

    def extrapolations(self, history: History) -> Beliefs:
        """What their own curves say of the candidates that have one."""
        found: Beliefs = {}
        for candidate, fit in self.fits(history).items():
            y, s = fit.log_error(self._full)
            found[candidate] = Belief(y, s, "extrapolated", fit.rising)
        return found

    def beliefs(self, history: History) -> Beliefs:
        """What the scores say of the candidates that have any."""
        curves = self.extrapolations(history)
        found: Beliefs = {}
        for candidate, known in history.candidates.items():
            full = known.at(self._full)
            if full:
                found[candidate] = Belief(full.log_error, full.log_noise, "measured")
            elif candidate in curves:
                found[candidate] = curves[candidate]
        deep = dict(found)
        falls: dict[int, tuple[float, float]] = {}
        for candidate, known in history.candidates.items():
            if candidate not in found and known.measurements:
                top = known.top
                falls[top] = falls.get(top) or self._fall(history, top, deep)
                found[candidate] = self._from_others(known, falls[top])
        return found

    def posterior(self, history: History) -> Posterior:
        """What is believed of the whole pool at r = 1, and who is the best of it."""
        scores = [(c, m) for c, known in history.candidates.items() for m in known.measurements]
        return joint_posterior(scores, self._tree.candidates, self._full)

    def rank(self, history: History) -> tuple[Estimate, ...]:
        """All candidates of the pool, best estimate first; ties in the pool's order."""
        return self._estimates(history, self.posterior(history))

    def rank_with_chances(self, history: History, found: Posterior) -> tuple[Estimate, ...]:
        """The same with probabilities of being the best pair.

        Args:
            history: what is known.
            found: what `posterior` says of it.
        """
        chances = dict(zip(found.candidates, found.best.tolist(), strict=True))
        ranking = self._estimates(history, found)
        return tuple(replace(e, best=chances[e.candidate]) for e in ranking)

    def _estimates(self, history: History, found: Posterior) -> tuple[Estimate, ...]:
        fits = self.fits(history)
        estimates = []
        moments = zip(found.mean.tolist(), found.deviation.tolist(), strict=True)
        for candidate, (y, s) in zip(found.candidates, moments, strict=True):
            known, fit = self._provenance(history.of(candidate)), fits.get(candidate)
            belief = Belief(y, s, known, bool(fit and fit.rising))
            estimates.append(self._estimate(history, candidate, belief))
        return tuple(sorted(estimates, key=lambda e: -e.value))  # stable

    def _provenance(self, known: CandidateHistory) -> Known:
        if known.at(self._full):
            return "measured"
        return "extrapolated" if len(known.measurements) >= self.points else "inferred"

    def answer(self, known: CandidateHistory, rung: int) -> float | None:
        """What decides between candidates scored at a rung: that score; None without it."""
        found = known.at(rung)
        return found.score if found else None

    def rank_trained(self, history: History) -> tuple[Estimate, ...]:
        """The same of the candidates with a score only; quick for large pools."""
        return self._trained(tuple(history.candidates.items()))

    def tie_set(self, ranking: Sequence[Estimate]) -> tuple[Estimate, ...]:
        """Those that cannot be told from the best, the best first.

        A candidate is told from the leader if the difference of their values exceeds z times the
        root sum of squares of their standard errors, taken from the nearer sides of their
        intervals.
        """
        leader = ranking[0]
        down = (leader.value - leader.low) ** 2
        return tuple(
            e for e in ranking if leader.value - e.value <= np.sqrt(down + (e.high - e.value) ** 2)
        )

    def _estimate_trained(
        self, known: tuple[tuple[Candidate, CandidateHistory], ...]
    ) -> tuple[Estimate, ...]:
        history = History(dict(known))
        return self._sorted(history, self.beliefs(history))

    def _below(self, known: CandidateHistory) -> tuple[Measurement, ...]:
        return tuple(m for m in known.measurements if m.samples < self._full)

    def _fall(
        self, history: History, samples: int, deep: Mapping[Candidate, Belief]
    ) -> tuple[float, float]:
        """Mean and spread of the fall d_k of those scored at n samples and known deeper.

        The vague slope counts as two of them, so that a few that agree do not pass for certainty.
        Each fall's end is itself known to within s only, which is added in squares.
        """
        distance = float(np.log(self._full / samples))
        falls = [
            (belief.y - at.log_error, belief.s)
            for candidate, belief in deep.items()
            if (at := history.of(candidate).at(samples))
        ]
        vague, spread = VAGUE_SLOPE.mean * distance, VAGUE_SLOPE.spread * distance
        mean = float(np.mean([vague, vague, *(fall for fall, _ in falls)]))
        squares = 2 * spread**2 + sum((fall - mean) ** 2 + s**2 for fall, s in falls)
        return mean, float(np.sqrt(squares / (2 + len(falls))))

    def _from_others(self, known: CandidateHistory, fall: tuple[float, float]) -> Belief:
        """From the last score, by the mean fall of the others from there on."""
        last, (mean, spread) = known.measurements[-1], fall
        return Belief(last.log_error + mean, float(np.hypot(last.log_noise, spread)), "inferred")

    def _untrained(
        self, candidate: Candidate, beliefs: Mapping[Candidate, Belief], by_cluster: Beliefs
    ) -> Belief:
        """From its cluster; worked out once for each, and kept under its medoid."""
        cluster = self._tree.cluster_of(candidate)
        if cluster.medoid not in by_cluster:
            by_cluster[cluster.medoid] = self._cluster_belief(cluster, beliefs)
        return by_cluster[cluster.medoid]

    def _cluster_belief(
        self, cluster: CandidateCluster, beliefs: Mapping[Candidate, Belief]
    ) -> Belief:
        """Weighted mean of its members, or of the pool if none has scores."""
        own = [beliefs[c] for c in cluster.candidates if c in beliefs]
        members = own or list(beliefs.values())
        if not members:  # nothing is known of anyone: half right, give or take everything
            return Belief(float(np.log(0.5)), 1.0, "inferred")
        weight = np.array([m.s for m in members]) ** -2.0
        ys = np.array([m.y for m in members])
        # from the first one on, so that the mean of one is that one, and no tie ends by rounding
        mean = float(ys[0] + np.average(ys - ys[0], weights=weight))
        spread = max(float(np.std(ys, ddof=1)) if len(ys) > 1 else 0.0, _SPREAD_PRIOR)
        return Belief(mean, float(np.hypot(spread, weight.sum() ** -0.5)), "inferred")

    def _sorted(
        self, history: History, beliefs: Mapping[Candidate, Belief]
    ) -> tuple[Estimate, ...]:
        estimates = [self._estimate(history, c, belief) for c, belief in beliefs.items()]
        encoder = {name: n for n, name in enumerate(self._tree.vision_encoders)}
        llm = {name: n for n, name in enumerate(self._tree.llms)}
        estimates.sort(key=lambda e: (encoder[e.candidate.vision_encoder], llm[e.candidate.llm]))
        return tuple(sorted(estimates, key=lambda e: -e.value))  # stable

    def _estimate(self, history: History, candidate: Candidate, belief: Belief) -> Estimate:
        known = history.of(candidate)
        reach = self._z * belief.s
        return Estimate(
            candidate=candidate,
            value=_score(belief.y),
            low=_score(belief.y + reach),
            high=_score(belief.y - reach),
            known=belief.known,
            samples=known.top,
            seconds=known.seconds,
            rising=belief.rising,
        )


class OneByOneRanker(Ranker):
    """Ranks the whole pool as the trained are ranked, each by itself, and the rest by clusters."""

    def posterior(self, history: History) -> Posterior:
        """From what is known of each pair, errors taken as independent."""
        beliefs = self.beliefs(history)
        by_cluster: Beliefs = {}
        whole = [
            beliefs.get(candidate) or self._untrained(candidate, beliefs, by_cluster)
            for candidate in self._tree.candidates
        ]
        return independent_posterior(
            self._tree.candidates, [belief.y for belief in whole], [belief.s for belief in whole]
        )


class PaperRanker(OneByOneRanker):
    """The paper's estimates: an accepted line is extrapolated, else the last score is taken.

    What the paper leaves open, and how it is read here: a candidate without p points or whose fit
    is rejected keeps its last score as its estimate; one never trained takes its cluster medoid's.
    Intervals are ours.
    """

    def __init__(
        self,
        tree: ClusterTree,
        full_samples: int,
        *,
        delta: float,
        confidence: float = 0.95,
        points: int = 3,
    ) -> None:
        """Rank as in the paper.

        Args:
            tree: the pool and its clusters.
            full_samples: D.
            delta: largest mean squared residual of an accepted fit.
            confidence: of the intervals, 0..1.
            points: p.
        """
        super().__init__(tree, full_samples, confidence=confidence, points=points)
        self._delta = delta

    def answer(self, known: CandidateHistory, rung: int) -> float | None:
        """The paper's f(1), which no score of another pair ever changes; None before that rung."""
        if not known.at(rung):
            return None
        belief = self.beliefs(History({_ANYONE: known}))[_ANYONE]
        return _score(belief.y)

    def _provenance(self, known: CandidateHistory) -> Known:
        if known.at(self._full):
            return "measured"
        accepted = fit_as_in_paper(
            self._below(known), points_needed=self.points, delta=self._delta
        )
        return "extrapolated" if accepted else "inferred"

    def fits(self, history: History) -> dict[Candidate, Fit]:
        """The accepted fits."""
        fits = {
            c: fit_as_in_paper(self._below(known), points_needed=self.points, delta=self._delta)
            for c, known in history.candidates.items()
        }
        return {c: fit for c, fit in fits.items() if fit}

    def _from_others(
        self,
        known: CandidateHistory,
        fall: tuple[float, float],  # noqa: ARG002 - the paper looks at nobody else
    ) -> Belief:
        last = known.measurements[-1]
        return Belief(last.log_error, last.log_noise, "inferred")

    def _cluster_belief(
        self, cluster: CandidateCluster, beliefs: Mapping[Candidate, Belief]
    ) -> Belief:
        known = next((beliefs[c] for c in cluster.candidates if c in beliefs), None)
        if known is None:
            return super()._cluster_belief(cluster, beliefs)
        return Belief(known.y, float(np.hypot(known.s, _SPREAD_PRIOR)), "inferred")


class AdditiveRanker(OneByOneRanker):
    """Completes a cross of one row and one column: y_ij = y_i0 + y_0j - y_00 in ln error."""

    def __init__(
        self,
        tree: ClusterTree,
        full_samples: int,
        *,
        centre: Candidate,
        confidence: float = 0.95,
        points: int = 3,
    ) -> None:
        """Rank from a cross.

        Args:
            tree: the pool.
            full_samples: D.
            centre: the pair whose row and column are trained.
            confidence: of the intervals, 0..1.
            points: p.
        """
        super().__init__(tree, full_samples, confidence=confidence, points=points)
        self._centre = centre

    def _untrained(
        self, candidate: Candidate, beliefs: Mapping[Candidate, Belief], by_cluster: Beliefs
    ) -> Belief:
        """Standard errors add in squares, with the spread of an interaction."""
        row = beliefs.get(Candidate(self._centre.vision_encoder, candidate.llm))
        column = beliefs.get(Candidate(candidate.vision_encoder, self._centre.llm))
        centre = beliefs.get(self._centre)
        if not (row and column and centre):
            return super()._untrained(candidate, beliefs, by_cluster)
        s = float(np.sqrt(row.s**2 + column.s**2 + centre.s**2 + _INTERACTION**2))
        return Belief(row.y + column.y - centre.y, s, "inferred")


def _score(log_error: float) -> float:
    return min(max(1.0 - math.exp(log_error), 0.0), 1.0)
