"""Halving over clusters: which candidate represents each cluster, and how the clusters scored.

A pool that is not clustered has as many clusters as candidates, and a plan is called several times
in every trial. So each call makes one pass over the candidates that have trials, and operations on
all clusters are vectorized.

Symbols:
    N      clusters of the pool
    n      number of a cluster, 0 to N - 1, in the order of the tree
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.clusters import CandidateCluster, ClusterTree
    from mordal_optuna.search.history import CandidateHistory, History


@dataclass(frozen=True)
class ClusterScores:
    """The clusters of a pool with the scores of their representatives.

    The representative of a cluster is its medoid, or, if the medoid cannot be trained, the first
    candidate of the cluster that can be.

    Attributes:
        clusters: all clusters of the pool.
        alive: numbers of the clusters with a trainable candidate, ascending.
        numbers: number of the cluster that a candidate represents, by candidate.
        replaced: representatives other than the medoid, by cluster number.
        scores: cluster numbers and their representatives' scores, by rung.
    """

    clusters: Sequence[CandidateCluster]
    alive: np.ndarray
    numbers: Mapping[Candidate, int]
    replaced: Mapping[int, Candidate]
    scores: Mapping[int, tuple[Sequence[int], Sequence[float]]]

    def representatives(self, numbers: np.ndarray) -> Iterator[Candidate]:
        """The representatives of some clusters, in the order of the given numbers."""
        for number in map(int, numbers):
            yield self.replaced.get(number) or self.clusters[number].medoid

    def split(self, numbers: np.ndarray, rung: int) -> tuple[np.ndarray, np.ndarray]:
        """Split clusters into those scored at a rung and those that are not; order is kept."""
        scored = np.zeros(len(self.clusters), dtype=bool)
        scored[self.scores[rung][0]] = True
        mask = scored[numbers]
        return numbers[mask], numbers[~mask]

    def best(self, scored: np.ndarray, rung: int, count: int) -> np.ndarray:
        """The best clusters by their scores at a rung.

        Args:
            scored: numbers of clusters with a score at the rung.
            rung: sample count of the rung.
            count: clusters to return; below 1 returns none.

        Returns:
            Cluster numbers, best first; equal scores keep their order.
        """
        if count < 1:
            return scored[:0]
        scores = np.empty(len(self.clusters))
        where, values = self.scores[rung]
        scores[where] = values
        return scored[np.argsort(-scores[scored], kind="stable")][:count]


class ClusterHalving:
    """Computes cluster scores from histories; keeps nothing of a history."""

    def __init__(self, tree: ClusterTree, rungs: Sequence[int]) -> None:
        """Prepare a pool.

        Args:
            tree: the pool and its clusters.
            rungs: sample counts at which the clusters compete.
        """
        self._clusters = tree.clusters
        self._rungs = tuple(rungs)
        self._all = np.arange(len(tree.clusters))
        self._numbers = {cluster.medoid: n for n, cluster in enumerate(tree.clusters)}

    def scores(
        self, history: History, usable: Callable[[CandidateHistory], bool]
    ) -> ClusterScores:
        """The representative of every cluster, and the representatives' scores.

        Args:
            history: history of the study.
            usable: returns whether a candidate with a given history may be trained.
        """
        scores = {rung: _Scores([], []) for rung in self._rungs}
        lost = []
        for candidate, record in history.candidates.items():
            if (number := self._numbers.get(candidate)) is not None:
                if usable(record):
                    _add_scores(scores, number, record)
                else:
                    lost.append(number)
        if not lost:
            return ClusterScores(self._clusters, self._all, self._numbers, {}, scores)
        replacements = {number: self._replacement(history, number, usable) for number in lost}
        replaced = {number: c for number, c in replacements.items() if c}
        for number, candidate in replaced.items():
            _add_scores(scores, number, history.of(candidate))
        medoids = {self._clusters[number].medoid for number in lost}
        numbers = {c: n for c, n in self._numbers.items() if c not in medoids}
        numbers |= {candidate: number for number, candidate in replaced.items()}
        alive = np.delete(self._all, [number for number in lost if number not in replaced])
        return ClusterScores(self._clusters, alive, numbers, replaced, scores)

    def _replacement(
        self, history: History, number: int, usable: Callable[[CandidateHistory], bool]
    ) -> Candidate | None:
        """The first candidate of a cluster that can be trained, or None."""
        candidates = self._clusters[number].candidates
        return next((c for c in candidates if usable(history.of(c))), None)


class _Scores(NamedTuple):
    """Scores at one rung: cluster numbers and values, in the same order."""

    numbers: list[int]
    values: list[float]


def _add_scores(scores: Mapping[int, _Scores], number: int, record: CandidateHistory) -> None:
    """Add the scores of a cluster's representative."""
    for measurement in record.measurements:
        if at := scores.get(measurement.samples):
            at.numbers.append(number)
            at.values.append(measurement.score)
