"""Rankers beside the default: pairs one by one, the paper's rules, additive, by likelihood.

Symbols:
    y, s   predicted ln error of a candidate at r = 1, and its standard error
    y_ij   y of encoder i with LLM j; row and column 0 are those of the centre
    D      samples of a full alignment
    p      scores below D that make a curve
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mordal_optuna.pool import Candidate
from mordal_optuna.search.bounds import require
from mordal_optuna.search.curves import fit_pool
from mordal_optuna.search.history import History
from mordal_optuna.search.joint.posterior import Posterior, independent_posterior
from mordal_optuna.search.likelihood import LikelihoodPoint, pooled_line
from mordal_optuna.search.paper_curves import fit_as_in_paper
from mordal_optuna.search.ranking import Belief, Ranker, score_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mordal_optuna.search.clusters import CandidateCluster, ClusterTree
    from mordal_optuna.search.curves import Fit
    from mordal_optuna.search.history import CandidateHistory
    from mordal_optuna.search.ranking import Beliefs, Provenance

# Spread of ln error inside a cluster until two of its candidates have scores.
_SPREAD_PRIOR = 0.3
# Assumed spread of the interaction of encoder and LLM in ln error, where errors are additive.
_INTERACTION = 0.1
# Key of a candidate whose history is evaluated without the rest of the pool.
_SINGLE = Candidate("", "")


class OneByOneRanker(Ranker):
    """Ranks the whole pool one by one: trained pairs by their own scores, others by cluster.

    With `joint`, that ranking is used during the search alone, and `rank` is by the joint model.
    """

    def __init__(
        self,
        tree: ClusterTree,
        full_samples: int,
        *,
        confidence: float = 0.95,
        points: int = 3,
        joint: bool = False,
        tasks: Mapping[str, float] | None = None,
    ) -> None:
        """Create a ranker of a pool.

        Args:
            tree: the pool and its clusters.
            full_samples: D, at least 1.
            confidence: confidence level of the intervals, above 0 and below 1.
            points: p, at least 2.
            joint: whether the whole pool is ranked by the joint model.
            tasks: weight of each task by its name, if there are several.

        Raises:
            SearchError: if an argument is out of its range.
        """
        super().__init__(tree, full_samples, confidence=confidence, points=points, tasks=tasks)
        self._joint = joint

    def posterior(self, history: History) -> Posterior:
        """The joint posterior, or that with independent errors."""
        return super().posterior(history) if self._joint else self.own_posterior(history)

    def task_posteriors(self, history: History, tasks: Iterable[str]) -> dict[str, Posterior]:
        """The joint posteriors, or those of each task's own scores with independent errors."""
        if self._joint:
            return super().task_posteriors(history, tasks)
        return {name: self.own_posterior(history.of_task(name)) for name in tasks}

    def own_posterior(self, history: History) -> Posterior:
        """The posterior of the whole pool with independent errors."""
        beliefs = self.beliefs(history)
        by_cluster: Beliefs = {}
        whole = [
            beliefs.get(candidate) or self.belief_untrained(candidate, beliefs, by_cluster)
            for candidate in self._tree.candidates
        ]
        return independent_posterior(
            self._tree.candidates, [belief.y for belief in whole], [belief.s for belief in whole]
        )

    def belief_untrained(
        self, candidate: Candidate, beliefs: Mapping[Candidate, Belief], by_cluster: Beliefs
    ) -> Belief:
        """The belief about a candidate without scores, taken from its cluster.

        Args:
            candidate: the pair.
            beliefs: beliefs about the candidates with scores.
            by_cluster: cache of the clusters' beliefs, by medoid; filled here.
        """
        cluster = self._tree.cluster_of(candidate)
        if cluster.medoid not in by_cluster:
            by_cluster[cluster.medoid] = self.belief_of_cluster(cluster, beliefs)
        return by_cluster[cluster.medoid]

    def belief_of_cluster(
        self, cluster: CandidateCluster, beliefs: Mapping[Candidate, Belief]
    ) -> Belief:
        """The weighted mean of a cluster's members, or of the pool if no member has scores."""
        inside = [beliefs[c] for c in cluster.candidates if c in beliefs]
        members = inside or list(beliefs.values())
        if not members:  # no evidence: error 0.5, very wide interval
            return Belief(float(np.log(0.5)), 1.0, "inferred")
        weight = np.array([m.s for m in members]) ** -2.0
        ys = np.array([m.y for m in members])
        # Relative to the first member, so that the mean of one member is that member exactly and
        # rounding breaks no tie.
        mean = float(ys[0] + np.average(ys - ys[0], weights=weight))
        spread = max(float(np.std(ys, ddof=1)) if len(ys) > 1 else 0.0, _SPREAD_PRIOR)
        return Belief(mean, float(np.hypot(spread, weight.sum() ** -0.5)), "inferred")


class PaperRanker(OneByOneRanker):
    """The paper's estimates: an accepted line is extrapolated, otherwise the last score is used.

    Where the paper is silent: a candidate with fewer than p points, or whose fit is rejected,
    keeps its last score as its estimate, and a candidate without scores takes the estimate of its
    cluster's medoid. The paper has no intervals; those computed here are an addition.
    """

    def __init__(
        self,
        tree: ClusterTree,
        full_samples: int,
        *,
        delta: float,
        confidence: float = 0.95,
        points: int = 3,
        joint: bool = False,
        tasks: Mapping[str, float] | None = None,
    ) -> None:
        """Create a ranker of a pool.

        Args:
            tree: the pool and its clusters.
            full_samples: D, at least 1.
            delta: largest mean squared residual of an accepted fit, above 0.
            confidence: confidence level of the intervals, above 0 and below 1.
            points: p, at least 2.
            joint: whether the whole pool is ranked by the joint model.
            tasks: weight of each task by its name, if there are several.

        Raises:
            SearchError: if an argument is out of its range.
        """
        require(delta > 0, "delta", delta, "above 0")
        super().__init__(
            tree,
            full_samples,
            confidence=confidence,
            points=points,
            joint=joint,
            tasks=tasks,
        )
        self._delta = delta

    def answer(self, record: CandidateHistory, rung: int) -> float | None:
        """The paper's f(1), which depends on no other pair; None before the rung is scored."""
        if not record.at(rung):
            return None
        belief = self.beliefs(History({_SINGLE: record}))[_SINGLE]
        return score_of(belief.y)

    def provenance_of(self, record: CandidateHistory) -> Provenance:
        """How the estimate of a candidate with this history is obtained, see `Estimate`."""
        if record.at(self._full):
            return "measured"
        return "extrapolated" if self._accepted_fit(record) else "inferred"

    def fits(self, history: History) -> dict[Candidate, Fit]:
        """The accepted fits."""
        fits = {c: self._accepted_fit(record) for c, record in history.candidates.items()}
        return {c: fit for c, fit in fits.items() if fit}

    def _accepted_fit(self, record: CandidateHistory) -> Fit | None:
        return fit_as_in_paper(
            self.points_below_full(record), points_needed=self.points, delta=self._delta
        )

    def belief_from_others(
        self,
        record: CandidateHistory,
        fall: tuple[float, float],  # noqa: ARG002 - the paper uses no other candidate
    ) -> Belief:
        """The last score, since the paper uses no other candidate."""
        last = record.measurements[-1]
        return Belief(last.log_error, last.log_noise, "inferred")

    def belief_of_cluster(
        self, cluster: CandidateCluster, beliefs: Mapping[Candidate, Belief]
    ) -> Belief:
        """The belief about the first member with scores, the medoid if it has any."""
        first = next((beliefs[c] for c in cluster.candidates if c in beliefs), None)
        if first is None:
            return super().belief_of_cluster(cluster, beliefs)
        return Belief(first.y, float(np.hypot(first.s, _SPREAD_PRIOR)), "inferred")


class AdditiveRanker(OneByOneRanker):
    """Completes a cross of one row and one column: y_ij = y_i0 + y_0j - y_00."""

    def __init__(
        self,
        tree: ClusterTree,
        full_samples: int,
        *,
        centre: Candidate,
        confidence: float = 0.95,
        points: int = 3,
        joint: bool = False,
        tasks: Mapping[str, float] | None = None,
    ) -> None:
        """Create a ranker of a pool.

        Args:
            tree: the pool and its clusters.
            full_samples: D, at least 1.
            centre: pair whose row and column are trained.
            confidence: confidence level of the intervals, above 0 and below 1.
            points: p, at least 2.
            joint: whether the whole pool is ranked by the joint model.
            tasks: weight of each task by its name, if there are several.

        Raises:
            SearchError: if an argument is out of its range.
        """
        super().__init__(
            tree,
            full_samples,
            confidence=confidence,
            points=points,
            joint=joint,
            tasks=tasks,
        )
        self._centre = centre

    def belief_untrained(
        self, candidate: Candidate, beliefs: Mapping[Candidate, Belief], by_cluster: Beliefs
    ) -> Belief:
        """The additive completion; standard errors and interaction are added in squares."""
        row = beliefs.get(Candidate(self._centre.vision_encoder, candidate.llm))
        column = beliefs.get(Candidate(candidate.vision_encoder, self._centre.llm))
        centre = beliefs.get(self._centre)
        if not (row and column and centre):
            return super().belief_untrained(candidate, beliefs, by_cluster)
        s = float(np.sqrt(row.s**2 + column.s**2 + centre.s**2 + _INTERACTION**2))
        return Belief(row.y + column.y - centre.y, s, "inferred")


class LikelihoodRanker(OneByOneRanker):
    """Ranks pairs one by one, by curves of the reference answers' likelihood, see `likelihood`."""

    def extrapolations(self, history: History) -> Beliefs:
        """The beliefs that the likelihood's curves give, for candidates with p points below D.

        Raises:
            SearchError: if a score has no likelihood.
        """
        points = {
            candidate: [LikelihoodPoint.of(m) for m in below]
            for candidate, record in history.candidates.items()
            if len(below := self.points_below_full(record)) >= self.points
        }
        if not points:
            return {}
        line = pooled_line([m for r in history.candidates.values() for m in r.measurements])
        extrapolated: Beliefs = {}
        for candidate, fit in fit_pool(points, least=self.points).items():
            y, s = line.log_error(*fit.log_error(self._full))
            extrapolated[candidate] = Belief(y, s, "extrapolated", fit.rising)
        return extrapolated
