"""Clusters of alike models, in two steps: vision encoders, then LLMs inside each vision cluster.

Symbols:
    s_ij  similarity of models i and j (CKA; debiased CKA may be slightly negative)
    d_ij  distance 1 - s_ij, at least 0
    t     similarity threshold; the dendrogram is cut at 1 - t, so a higher t gives more clusters
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy.cluster import hierarchy
from scipy.spatial import distance as spatial

from mordal_optuna.errors import SimilarityError
from mordal_optuna.pool import Candidate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike

Linkage = Literal["average", "complete", "single"]


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

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """All pairs, the pair of medoids first."""
        return tuple(Candidate(v, m) for v in self.vision.members for m in self.llm.members)


@dataclass(frozen=True)
class ClusterTree:
    """All candidate clusters of a pool; each candidate is in exactly one.

    Attributes:
        vision_encoders: names in the pool's order.
        llms: names in the pool's order.
        clusters: in order of their vision cluster, then their LLM cluster.
    """

    vision_encoders: tuple[str, ...]
    llms: tuple[str, ...]
    clusters: tuple[CandidateCluster, ...]

    @staticmethod
    def flat(vision_encoders: Sequence[str], llms: Sequence[str]) -> ClusterTree:
        """Every candidate a cluster of its own, where no similarity is known."""
        clusters = (
            CandidateCluster(Group((v,)), Group((m,))) for v in vision_encoders for m in llms
        )
        return ClusterTree(tuple(vision_encoders), tuple(llms), tuple(clusters))

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """The whole pool, encoder by encoder."""
        return tuple(Candidate(v, m) for v in self.vision_encoders for m in self.llms)

    def cluster_of(self, candidate: Candidate) -> CandidateCluster:
        """The cluster that holds a candidate of this pool."""
        return next(cluster for cluster in self.clusters if candidate in cluster.candidates)

    def to_json(self) -> dict[str, Any]:
        """Plain lists, as stored with the study."""
        return {
            "vision_encoders": list(self.vision_encoders),
            "llms": list(self.llms),
            "clusters": [
                {"vision": list(c.vision.members), "llm": list(c.llm.members)}
                for c in self.clusters
            ],
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
    condensed = spatial.squareform(distances, checks=False)
    dendrogram = hierarchy.linkage(condensed, method=linkage)
    labels = hierarchy.fcluster(dendrogram, t=1.0 - threshold, criterion="distance")
    order = dict.fromkeys(labels.tolist())
    return tuple(_group(names, matrix, np.flatnonzero(labels == label)) for label in order)


def cluster_pool(
    vision_groups: Sequence[Group],
    llm_groups: Mapping[str, Sequence[Group]],
    *,
    vision_encoders: Sequence[str],
    llms: Sequence[str],
) -> ClusterTree:
    """Cross every vision cluster with the LLM clusters found under its medoid.

    Args:
        vision_groups: clusters of all encoders.
        llm_groups: clusters of all LLMs, by the medoid of each vision cluster.
        vision_encoders: names in the pool's order.
        llms: names in the pool's order.

    Raises:
        SimilarityError: if the LLM clusters of a medoid are missing.
    """
    for group in vision_groups:
        if group.medoid not in llm_groups:
            raise SimilarityError(
                f"LLM clusters are given for {sorted(llm_groups)}; the medoid {group.medoid!r} "
                "needs its own"
            )
    clusters = tuple(
        CandidateCluster(vision, llm)
        for vision in vision_groups
        for llm in llm_groups[vision.medoid]
    )
    return ClusterTree(tuple(vision_encoders), tuple(llms), clusters)


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
