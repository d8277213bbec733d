"""Halving: who stands for each cluster of a pool, how they scored, and who goes on.

A pool that is not clustered has as many clusters as candidates, and a plan is asked several times
in every trial. So each question takes one pass over the candidates that were tried, and what
concerns all clusters is asked of arrays.

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
class Standings:
    """The clusters as a history finds them.

    Attributes:
        clusters: all of the pool.
        alive: numbers of those with a candidate that can be trained, ascending.
        numbers: number of the cluster that a candidate stands for.
        replaced: who stands for a cluster where it is not the medoid.
        scores: by rung, clusters and the scores there of who stands for them.
    """

    clusters: Sequence[CandidateCluster]
    alive: np.ndarray
    numbers: Mapping[Candidate, int]
    replaced: Mapping[int, Candidate]
    scores: Mapping[int, tuple[Sequence[int], Sequence[float]]]

    def candidates(self, numbers: np.ndarray) -> Iterator[Candidate]:
        """Who stands for each of these clusters."""
        for number in map(int, numbers):
            yield self.replaced.get(number) or self.clusters[number].medoid

    def split(self, numbers: np.ndarray, rung: int) -> tuple[np.ndarray, np.ndarray]:
        """Of these clusters the ones scored at a rung, and the ones that are not, in order."""
        scored = np.zeros(len(self.clusters), dtype=bool)
        scored[self.scores[rung][0]] = True
        known = scored[numbers]
        return numbers[known], numbers[~known]

    def best(self, scored: np.ndarray, rung: int, count: int) -> np.ndarray:
        """So many of these clusters by their scores at a rung, best first; equals in order."""
        if count < 1:
            return scored[:0]
        scores = np.empty(len(self.clusters))
        where, values = self.scores[rung]
        scores[where] = values
        return scored[np.argsort(-scores[scored], kind="stable")][:count]


class Halving:
    """Reads standings off histories; holds nothing of them."""

    def __init__(self, tree: ClusterTree, rungs: Sequence[int]) -> None:
        """Prepare a pool.

        Args:
            tree: the pool and its clusters.
            rungs: at which the clusters compete.
        """
        self._clusters = tree.clusters
        self._rungs = tuple(rungs)
        self._all = np.arange(len(tree.clusters))
        self._numbers = {cluster.medoid: n for n, cluster in enumerate(tree.clusters)}

    def standings(self, history: History, usable: Callable[[CandidateHistory], bool]) -> Standings:
        """Who stands for each cluster, and what they have scored.

        Args:
            history: what is known.
            usable: whether a candidate with this history may be trained.
        """
        scores = {rung: _Scores([], []) for rung in self._rungs}
        lost = []
        for candidate, known in history.candidates.items():
            if (number := self._numbers.get(candidate)) is not None:
                if usable(known):
                    _take(scores, number, known)
                else:
                    lost.append(number)
        if not lost:
            return Standings(self._clusters, self._all, self._numbers, {}, scores)
        heirs = {number: self._heir(history, number, usable) for number in lost}
        replaced = {number: heir for number, heir in heirs.items() if heir}
        for number, heir in replaced.items():
            _take(scores, number, history.of(heir))
        medoids = {self._clusters[number].medoid for number in lost}
        numbers = {c: n for c, n in self._numbers.items() if c not in medoids}
        numbers |= {heir: number for number, heir in replaced.items()}
        alive = np.delete(self._all, [number for number in lost if number not in replaced])
        return Standings(self._clusters, alive, numbers, replaced, scores)

    def _heir(
        self, history: History, number: int, usable: Callable[[CandidateHistory], bool]
    ) -> Candidate | None:
        """The first candidate of a cluster that can be trained."""
        candidates = self._clusters[number].candidates
        return next((c for c in candidates if usable(history.of(c))), None)


class _Scores(NamedTuple):
    """Scores at one rung, as they are come by."""

    numbers: list[int]
    values: list[float]


def _take(scores: Mapping[int, _Scores], number: int, known: CandidateHistory) -> None:
    """Note the scores of who stands for a cluster."""
    for measurement in known.measurements:
        if at := scores.get(measurement.samples):
            at.numbers.append(number)
            at.values.append(measurement.score)
