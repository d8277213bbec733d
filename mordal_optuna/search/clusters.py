"""Clusters of alike models, in two steps: vision encoders, then LLMs inside each vision cluster.

Symbols:
    s_ij  similarity of models i and j (CKA; debiased CKA may be slightly negative)
    d_ij  distance 1 - s_ij, at least 0
    t     similarity threshold; the dendrogram is cut at 1 - t, so a higher t gives more clusters
    a_i   mean distance of model i to the other members of its cluster
    b_i   smallest mean distance of model i to the members of another cluster
    w_i   silhouette (b_i - a_i) / max(a_i, b_i), 0 for a singleton; W is their mean
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy.cluster import hierarchy
from scipy.spatial import distance as spatial

from mordal_optuna.errors import SimilarityError
from mordal_optuna.pool import Candidate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import ArrayLike

Linkage = Literal["average", "complete", "single"]

# Mean silhouette below which a grouping is "no substantial structure" (Kaufman and Rousseeuw
# 1990, table 2.4).
NO_STRUCTURE = 0.25
# Models at least this alike are one group whatever the rest looks like: the finest threshold
# that the paper's ablation tried.
ALIKE = 0.9
# By CKA, a medoid tells little of models less alike than this, however clearly they stand apart
# from the rest: the coarser of the paper's two thresholds. Other measures have other scales.
LEAST_CKA = 0.7


@dataclass(frozen=True)
class Group:
    """Models alike enough to stand for one another.

    Attributes:
        members: names, the medoid first, then by falling similarity to it.
    """

    members: tuple[str, ...]

    @property
    def medoid(self) -> str:
        """The member with the largest summed similarity to the others."""
        return self.members[0]


@dataclass(frozen=True)
class CandidateCluster:
    """A vision cluster crossed with one of its LLM clusters."""

    vision: Group
    llm: Group

    @cached_property
    def medoid(self) -> Candidate:
        """The pair of medoids."""
        return Candidate(self.vision.medoid, self.llm.medoid)

    @cached_property
    def candidates(self) -> tuple[Candidate, ...]:
        """All pairs, the pair of medoids first."""
        return tuple(Candidate(v, m) for v in self.vision.members for m in self.llm.members)


@dataclass(frozen=True)
class Thresholds:
    """Similarity thresholds that a pool was cut at.

    Attributes:
        vision: t of the vision encoders.
        llms: t of the LLMs, by the medoid encoder whose embeddings they were fed.
    """

    vision: float
    llms: Mapping[str, float]


@dataclass(frozen=True)
class ClusterTree:
    """All candidate clusters of a pool; each candidate is in exactly one.

    Attributes:
        vision_encoders: names in the pool's order.
        llms: names in the pool's order.
        clusters: in order of their vision cluster, then their LLM cluster.
        thresholds: where the pool was cut; None where it was not clustered.
    """

    vision_encoders: tuple[str, ...]
    llms: tuple[str, ...]
    clusters: tuple[CandidateCluster, ...]
    thresholds: Thresholds | None = None

    @staticmethod
    def flat(vision_encoders: Sequence[str], llms: Sequence[str]) -> ClusterTree:
        """Every candidate a cluster of its own, where no similarity is known."""
        clusters = (
            CandidateCluster(Group((v,)), Group((m,))) for v in vision_encoders for m in llms
        )
        return ClusterTree(tuple(vision_encoders), tuple(llms), tuple(clusters))

    @cached_property
    def candidates(self) -> tuple[Candidate, ...]:
        """The whole pool, encoder by encoder."""
        return tuple(Candidate(v, m) for v in self.vision_encoders for m in self.llms)

    def cluster_of(self, candidate: Candidate) -> CandidateCluster:
        """The cluster that holds a candidate of this pool."""
        return self._by_parts[self._medoid_of[candidate.vision_encoder], candidate.llm]

    @cached_property
    def _medoid_of(self) -> dict[str, str]:
        return {v: own.vision.medoid for own in self.clusters for v in own.vision.members}

    @cached_property
    def _by_parts(self) -> dict[tuple[str, str], CandidateCluster]:
        # By parts, not by candidate: a pool of 1,000 x 1,000 has a million of those.
        return {(own.vision.medoid, m): own for own in self.clusters for m in own.llm.members}

    def to_json(self) -> dict[str, Any]:
        """Plain lists, as stored with the study."""
        return {
            "vision_encoders": list(self.vision_encoders),
            "llms": list(self.llms),
            "clusters": [
                {"vision": list(c.vision.members), "llm": list(c.llm.members)}
                for c in self.clusters
            ],
            "thresholds": asdict(self.thresholds) if self.thresholds else None,
        }

    @staticmethod
    def from_json(stored: Mapping[str, Any]) -> ClusterTree:
        """Inverse of `to_json`."""
        return ClusterTree(
            tuple(stored["vision_encoders"]),
            tuple(stored["llms"]),
            tuple(
                CandidateCluster(Group(tuple(c["vision"])), Group(tuple(c["llm"])))
                for c in stored["clusters"]
            ),
            Thresholds(**stored["thresholds"]) if stored["thresholds"] else None,
        )


def cluster_models(
    names: Sequence[str],
    similarity: ArrayLike,
    *,
    threshold: float,
    linkage: Linkage = "average",
) -> tuple[Group, ...]:
    """Hierarchical clustering on 1 - similarity, cut at 1 - threshold.

    Args:
        names: M names.
        similarity: M x M, symmetric, finite, 1 on the diagonal.
        threshold: t, -1..1; models join while their similarity is at least t.
        linkage: how the distance of two clusters is measured.

    Returns:
        Groups in the order of their first member in `names`; one model gives one group.

    Raises:
        SimilarityError: for a wrong shape, an asymmetry, or a value that is no number, naming
            the pair.
    """
    matrix = _checked(names, similarity)
    if len(names) == 1:
        return (Group((names[0],)),)
    distances = np.clip(1.0 - matrix, 0.0, None)
    np.fill_diagonal(distances, 0.0)
    labels = _cut(_dendrogram(distances, linkage), threshold)
    order = dict.fromkeys(labels.tolist())
    return tuple(_group(names, matrix, np.flatnonzero(labels == label)) for label in order)


def choose_threshold(
    names: Sequence[str],
    similarity: ArrayLike,
    *,
    linkage: Linkage = "average",
    least: float = -1.0,
) -> float:
    """The threshold whose clusters are the most clearly apart.

    Of all cuts of the dendrogram that give between 2 and M - 1 clusters, the one with the largest
    mean silhouette W (Rousseeuw 1987). A medoid stands in for its whole cluster, so models are
    joined only where the data show groups: if the best W is below .25 (no substantial
    structure), every model stays alone; if all pairs are at least .9 alike, all are one cluster.
    Works on any similarity that is 1 between equals; it does not rely on where 0 lies. One odd
    model makes a clear cut of all others against it, alike or not: `least` keeps the others apart.

    Args:
        names: M names.
        similarity: M x M, symmetric, finite, 1 on the diagonal.
        linkage: how the distance of two clusters is measured.
        least: t is raised to it; -1 leaves it.

    Returns:
        t, half way between the two merges that the cut lies between, or `least`.

    Raises:
        SimilarityError: as `cluster_models`.
    """
    matrix = _checked(names, similarity)
    if len(names) == 1 or matrix.min() >= ALIKE:
        return ALIKE
    distances = np.clip(1.0 - matrix, 0.0, None)
    np.fill_diagonal(distances, 0.0)
    dendrogram = _dendrogram(distances, linkage)
    levels = 1.0 - np.concatenate([[0.0], dendrogram[:, 2]])  # similarity at each merge, from 1
    apart = float(levels[0] + levels[1]) / 2
    cuts = [float(high + low) / 2 for high, low in pairwise(levels[1:]) if high > low]
    scored = [(_silhouette(distances, _cut(dendrogram, cut)), cut) for cut in cuts]
    best, cut = max(scored, default=(0.0, apart))  # of equals the finer one
    return max(cut if best >= NO_STRUCTURE else apart, least)


def cluster_pool(
    vision_encoders: Sequence[str],
    llms: Sequence[str],
    vision_similarity: ArrayLike,
    llm_similarity: Callable[[str], ArrayLike],
    *,
    vision_threshold: float | Literal["auto"] = "auto",
    llm_threshold: float | Literal["auto"] = "auto",
    linkage: Linkage = "average",
    least: float = -1.0,
) -> ClusterTree:
    """Two steps: vision encoders, then under each medoid the LLMs.

    Args:
        vision_encoders: names in the pool's order.
        llms: names in the pool's order.
        vision_similarity: encoders x encoders.
        llm_similarity: LLMs x LLMs, of the LLMs fed with the embeddings of a given encoder; asked
            for the medoids only.
        vision_threshold: t of the encoders; `auto` takes `choose_threshold`.
        llm_threshold: t of the LLMs, the same for all medoids; `auto` chooses for each.
        linkage: how the distance of two clusters is measured.
        least: of the thresholds that are chosen, such as `LEAST_CKA`.

    Raises:
        SimilarityError: as `cluster_models`.
    """
    vision_cut = (
        choose_threshold(vision_encoders, vision_similarity, linkage=linkage, least=least)
        if vision_threshold == "auto"
        else vision_threshold
    )
    clusters, cuts = [], {}
    for group in cluster_models(
        vision_encoders, vision_similarity, threshold=vision_cut, linkage=linkage
    ):
        similarity = llm_similarity(group.medoid)
        cut = (
            choose_threshold(llms, similarity, linkage=linkage, least=least)
            if llm_threshold == "auto"
            else llm_threshold
        )
        cuts[group.medoid] = cut
        own = cluster_models(llms, similarity, threshold=cut, linkage=linkage)
        clusters += [CandidateCluster(group, llm) for llm in own]
    return ClusterTree(
        tuple(vision_encoders), tuple(llms), tuple(clusters), Thresholds(vision_cut, cuts)
    )


def _dendrogram(distances: np.ndarray, linkage: Linkage) -> np.ndarray:
    return hierarchy.linkage(spatial.squareform(distances, checks=False), method=linkage)


def _cut(dendrogram: np.ndarray, threshold: float) -> np.ndarray:
    return hierarchy.fcluster(dendrogram, t=1.0 - threshold, criterion="distance")


def _silhouette(distances: np.ndarray, labels: np.ndarray) -> float:
    """Mean silhouette W of a grouping with at least two clusters."""
    groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    widths = np.zeros(len(labels))
    for own in groups:
        if len(own) == 1:
            continue
        inside = distances[np.ix_(own, own)].sum(axis=1) / (len(own) - 1)
        others = [
            distances[np.ix_(own, group)].mean(axis=1) for group in groups if group is not own
        ]
        outside = np.min(others, axis=0)
        widths[own] = (outside - inside) / np.maximum(np.maximum(inside, outside), 1e-12)
    return float(widths.mean())


def _checked(names: Sequence[str], similarity: ArrayLike) -> np.ndarray:
    matrix = np.asarray(similarity, dtype=float)
    if matrix.shape != (len(names), len(names)) or not names:
        raise SimilarityError(
            f"a matrix of shape {matrix.shape} was given for {len(names)} models; it must be "
            "square with one row per model, and at least one model"
        )
    for i, j in np.argwhere(~np.isfinite(matrix)):
        raise SimilarityError(f"{matrix[i, j]}; it must be a number", (names[i], names[j]))
    for i, j in np.argwhere(np.abs(matrix - matrix.T) > 1e-6):
        raise SimilarityError(
            f"{matrix[i, j]} one way and {matrix[j, i]} the other; it must be symmetric",
            (names[i], names[j]),
        )
    return matrix


def _group(names: Sequence[str], matrix: np.ndarray, members: np.ndarray) -> Group:
    inner = matrix[np.ix_(members, members)]
    # argmax takes the first of equals, so two members give the one listed first in the pool.
    medoid = int(np.argmax(np.round(inner.sum(axis=1), 12)))
    order = sorted(range(len(members)), key=lambda i: (i != medoid, -inner[medoid, i], i))
    return Group(tuple(names[members[i]] for i in order))
