"""Clusters of similar models, in two steps: vision encoders, then LLMs in each vision cluster.

Symbols:
    s_ij  similarity of models i and j (CKA; debiased CKA may be slightly negative)
    d_ij  distance 1 - s_ij, at least 0
    t     similarity threshold, -1 to 1; the dendrogram is cut at distance 1 - t
    M     number of models
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

from mordal_optuna.errors import SimilarityError
from mordal_optuna.pool import Candidate
from mordal_optuna.search.bounds import require

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from numpy.typing import ArrayLike

Linkage = Literal["average", "complete", "single"]

# Mean silhouette below which a grouping has "no substantial structure" (Kaufman and Rousseeuw
# 1990, table 2.4).
NO_STRUCTURE = 0.25
# A pool whose similarities are all at least this high is one cluster: the finest threshold in the
# paper's ablation.
ALIKE = 0.9
# Smallest threshold that is chosen for CKA: the coarser of the paper's two thresholds. A medoid's
# score predicts little about models less similar than this, however clear their cluster is. Other
# similarity measures have other scales.
LEAST_CKA = 0.7
# Models per side up to which similarities are stored with a study: matrices of 1,000 models would
# take megabytes of a database that every worker reads.
_STORED = 128


@dataclass(frozen=True)
class Group:
    """A cluster of similar models of one kind.

    Attributes:
        members: names, the medoid first, then by descending similarity to the medoid.
    """

    members: tuple[str, ...]

    @property
    def medoid(self) -> str:
        """The member with the largest summed similarity to the others."""
        return self.members[0]


@dataclass(frozen=True)
class CandidateCluster:
    """All pairs of a vision cluster and one of its LLM clusters.

    Attributes:
        vision: the vision cluster.
        llm: the LLM cluster.
    """

    vision: Group
    llm: Group

    @cached_property
    def medoid(self) -> Candidate:
        """The pair of medoids."""
        return Candidate(self.vision.medoid, self.llm.medoid)

    @cached_property
    def candidates(self) -> tuple[Candidate, ...]:
        """All pairs of the cluster, the pair of medoids first."""
        return tuple(Candidate(v, m) for v in self.vision.members for m in self.llm.members)


@dataclass(frozen=True)
class Thresholds:
    """Similarity thresholds by which a pool was clustered.

    Attributes:
        vision: t of the vision encoders.
        llms: t of the LLMs, by the medoid encoder whose embeddings the LLMs received.
    """

    vision: float
    llms: Mapping[str, float]


Matrix = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Similarities:
    """Similarities of a pool's models, as the joint model uses them.

    Attributes:
        encoders: similarities of the vision encoders, encoders x encoders; None if they were not
            compared.
        llms: similarities of the LLMs, LLMs x LLMs, the mean over the medoid encoders whose
            embeddings the LLMs received; None if they were not compared.
    """

    encoders: Matrix | None = None
    llms: Matrix | None = None


@dataclass(frozen=True)
class ClusterTree:
    """All candidate clusters of a pool; each candidate is in exactly one.

    Attributes:
        vision_encoders: names in the pool's order.
        llms: names in the pool's order.
        clusters: candidate clusters, by vision cluster, then by LLM cluster.
        thresholds: thresholds of the clustering; None if the pool was not clustered.
        similarities: similarities of the models; None if the pool was not compared, or if it has
            more than 128 encoders or LLMs.
    """

    vision_encoders: tuple[str, ...]
    llms: tuple[str, ...]
    clusters: tuple[CandidateCluster, ...]
    thresholds: Thresholds | None = None
    similarities: Similarities | None = None

    @staticmethod
    def flat(vision_encoders: Sequence[str], llms: Sequence[str]) -> ClusterTree:
        """A tree in which every candidate is a cluster, for pools without similarities."""
        clusters = (
            CandidateCluster(Group((v,)), Group((m,))) for v in vision_encoders for m in llms
        )
        return ClusterTree(tuple(vision_encoders), tuple(llms), tuple(clusters))

    @cached_property
    def candidates(self) -> tuple[Candidate, ...]:
        """All pairs of the pool, encoder by encoder."""
        return tuple(Candidate(v, m) for v in self.vision_encoders for m in self.llms)

    def cluster_of(self, candidate: Candidate) -> CandidateCluster:
        """The cluster that holds a candidate of this pool."""
        return self._by_parts[self._medoid_of[candidate.vision_encoder], candidate.llm]

    @cached_property
    def _medoid_of(self) -> dict[str, str]:
        return {v: c.vision.medoid for c in self.clusters for v in c.vision.members}

    @cached_property
    def _by_parts(self) -> dict[tuple[str, str], CandidateCluster]:
        # By medoid encoder and LLM, since a pool of 1,000 x 1,000 has a million candidates.
        return {(c.vision.medoid, m): c for c in self.clusters for m in c.llm.members}

    def to_json(self) -> dict[str, Any]:
        """The JSON value that is stored with the study."""
        return {
            "vision_encoders": list(self.vision_encoders),
            "llms": list(self.llms),
            "clusters": [
                {"vision": list(c.vision.members), "llm": list(c.llm.members)}
                for c in self.clusters
            ],
            "thresholds": asdict(self.thresholds) if self.thresholds else None,
        } | ({"similarities": asdict(self.similarities)} if self.similarities else {})

    @staticmethod
    def from_json(stored: Mapping[str, Any]) -> ClusterTree:
        """The inverse of `to_json`."""
        return ClusterTree(
            tuple(stored["vision_encoders"]),
            tuple(stored["llms"]),
            tuple(
                CandidateCluster(Group(tuple(c["vision"])), Group(tuple(c["llm"])))
                for c in stored["clusters"]
            ),
            Thresholds(**stored["thresholds"]) if stored["thresholds"] else None,
            _similarities(stored.get("similarities")),
        )


def _similarities(stored: Mapping[str, Any] | None) -> Similarities | None:
    if stored is None:
        return None
    return Similarities(*(m and _matrix(m) for m in (stored["encoders"], stored["llms"])))


def _matrix(similarity: ArrayLike) -> Matrix:
    """Similarities to three decimals, which is what is stored."""
    rows = np.round(np.asarray(similarity, dtype=float), 3).tolist()
    return tuple(map(tuple, rows))


def cluster_models(
    names: Sequence[str],
    similarity: ArrayLike,
    *,
    threshold: float,
    linkage: Linkage = "average",
) -> tuple[Group, ...]:
    """Hierarchical clustering on 1 - similarity, cut at 1 - threshold.

    Args:
        names: names of the models, M entries, at least one.
        similarity: similarities, M x M, symmetric, finite, 1 on the diagonal.
        threshold: t, -1 to 1; clusters are merged while their similarity is at least t.
        linkage: how the distance of two clusters is measured.

    Returns:
        Clusters in the order of their first member in `names`; one model gives one cluster.

    Raises:
        SearchError: if the threshold is out of its range.
        SimilarityError: if the similarities have a wrong shape, are not symmetric, or contain a
            value that is no number; names the pair.
    """
    require(-1 <= threshold <= 1, "threshold", threshold, "a similarity from -1 to 1")
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
    """The threshold that gives the most clearly separated clusters.

    Of all cuts of the dendrogram into 2 to M - 1 clusters, the one with the largest mean
    silhouette W (Rousseeuw 1987). A medoid represents its whole cluster in the search, so models
    are clustered only if the data show clusters: if the largest W is below .25 (no substantial
    structure), every model is a cluster; if all similarities are at least .9, the pool is one
    cluster. The choice is valid for every similarity that is 1 between equal models; the position
    of 0 does not matter. A single outlier gives a clear cut between itself and all other models,
    however dissimilar these are; `least` keeps such models apart.

    Args:
        names: names of the models, M entries, at least one.
        similarity: similarities, M x M, symmetric, finite, 1 on the diagonal.
        linkage: how the distance of two clusters is measured.
        least: smallest threshold, -1 to 1, such as `LEAST_CKA`.

    Returns:
        t, the midpoint of the similarities of the two merges next to the cut, or `least`.

    Raises:
        SearchError: if `least` is out of its range.
        SimilarityError: as `cluster_models`.
    """
    require(-1 <= least <= 1, "least", least, "a similarity from -1 to 1")
    matrix = _checked(names, similarity)
    if len(names) == 1 or matrix.min() >= ALIKE:
        return ALIKE
    distances = np.clip(1.0 - matrix, 0.0, None)
    np.fill_diagonal(distances, 0.0)
    dendrogram = _dendrogram(distances, linkage)
    levels = 1.0 - np.concatenate([[0.0], dendrogram[:, 2]])  # similarity at each merge, after 1
    apart = float(levels[0] + levels[1]) / 2
    cuts = [float(high + low) / 2 for high, low in pairwise(levels[1:]) if high > low]
    scored = [(_silhouette(distances, _cut(dendrogram, cut)), cut) for cut in cuts]
    best, cut = max(scored, default=(0.0, apart))  # of equal silhouettes the finer cut
    return max(cut if best >= NO_STRUCTURE else apart, least)


def cluster_pool(
    vision_encoders: Sequence[str],
    llms: Sequence[str],
    vision_similarity: ArrayLike,
    llm_similarity: Callable[[str], ArrayLike] | None,
    *,
    vision_threshold: float | Literal["auto"] = "auto",
    llm_threshold: float | Literal["auto"] = "auto",
    linkage: Linkage = "average",
    least: float = -1.0,
    one_medoid: bool = False,
    left_out: Collection[str] = (),
) -> ClusterTree:
    """Cluster a pool in two steps: the vision encoders, then the LLMs for each medoid encoder.

    Args:
        vision_encoders: names in the pool's order.
        llms: names in the pool's order.
        vision_similarity: similarities of the encoders, encoders x encoders.
        llm_similarity: returns the similarities of the LLMs, LLMs x LLMs, when the LLMs receive
            the embeddings of a given encoder; called with the medoid encoders only. None if the
            LLMs are not compared; each is then a cluster.
        vision_threshold: t of the encoders, -1 to 1; `auto` chooses it by `choose_threshold`.
        llm_threshold: t of the LLMs, -1 to 1, the same for all medoids; `auto` chooses one for
            each medoid.
        linkage: how the distance of two clusters is measured.
        least: smallest chosen threshold, -1 to 1, such as `LEAST_CKA`.
        one_medoid: whether the LLMs are compared with the medoid of the largest vision cluster
            alone; all vision clusters then have the same LLM clusters.
        left_out: LLMs that were not compared. Each is a cluster by itself, and none of their
            similarities is read.

    Raises:
        SearchError: if a threshold is out of its range.
        SimilarityError: as `cluster_models`.
    """
    vision_cut = (
        choose_threshold(vision_encoders, vision_similarity, linkage=linkage, least=least)
        if vision_threshold == "auto"
        else vision_threshold
    )
    groups = cluster_models(
        vision_encoders, vision_similarity, threshold=vision_cut, linkage=linkage
    )
    fed = [group.medoid for group in groups]
    if one_medoid:
        fed = [max(groups, key=lambda group: len(group.members)).medoid]
    by_medoid: dict[str, Sequence[Group]] = {}
    cuts, compared = {}, []
    for medoid in fed:
        if llm_similarity is None:
            break
        similarity = np.asarray(llm_similarity(medoid), dtype=float)
        known = [n for n, llm in enumerate(llms) if llm not in left_out]
        names, among = [llms[n] for n in known], similarity[np.ix_(known, known)]
        cut = (
            choose_threshold(names, among, linkage=linkage, least=least)
            if llm_threshold == "auto"
            else llm_threshold
        )
        cuts[medoid] = cut
        found = cluster_models(names, among, threshold=cut, linkage=linkage)
        by_medoid[medoid] = _with_alone(llms, found, left_out)
        compared.append(similarity)
    alone = by_medoid[fed[0]] if by_medoid else [Group((llm,)) for llm in llms]
    clusters = [
        CandidateCluster(group, llm_group)
        for group in groups
        for llm_group in by_medoid.get(group.medoid, alone)
    ]
    similarities = None
    if max(len(vision_encoders), len(llms)) <= _STORED:
        means = _matrix(np.mean(compared, axis=0)) if compared else None
        similarities = Similarities(_matrix(vision_similarity), means)
    return ClusterTree(
        tuple(vision_encoders),
        tuple(llms),
        tuple(clusters),
        Thresholds(vision_cut, cuts),
        similarities,
    )


def merges(similarity: ArrayLike, linkage: Linkage = "average") -> np.ndarray:
    """The dendrogram of compared models, for drawing.

    Args:
        similarity: similarities, M x M, symmetric, finite, M at least 2.
        linkage: how the distance of two clusters is measured.

    Returns:
        M - 1 merges x 4: two clusters, their distance, number of models, as SciPy's `linkage`.
    """
    distances = np.clip(1.0 - np.asarray(similarity, dtype=float), 0.0, None)
    np.fill_diagonal(distances, 0.0)
    return _dendrogram(distances, linkage)


def _with_alone(
    names: Sequence[str], groups: Sequence[Group], alone: Collection[str]
) -> tuple[Group, ...]:
    """Groups, and a group for each model that is alone, in the order of their first member."""
    every = [*groups, *(Group((name,)) for name in names if name in alone)]
    return tuple(sorted(every, key=lambda group: min(map(names.index, group.members))))


def _dendrogram(distances: np.ndarray, linkage: Linkage) -> np.ndarray:
    # Imported here, since commands that only look at a study cluster nothing.
    from scipy.cluster import hierarchy
    from scipy.spatial import distance as spatial

    return hierarchy.linkage(spatial.squareform(distances, checks=False), method=linkage)


def _cut(dendrogram: np.ndarray, threshold: float) -> np.ndarray:
    from scipy.cluster import hierarchy

    return hierarchy.fcluster(dendrogram, t=1.0 - threshold, criterion="distance")


def _silhouette(distances: np.ndarray, labels: np.ndarray) -> float:
    """Mean silhouette W of a grouping with at least two clusters."""
    groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    widths = np.zeros(len(labels))
    for group in groups:
        if len(group) == 1:
            continue
        inside = distances[np.ix_(group, group)].sum(axis=1) / (len(group) - 1)
        others = [
            distances[np.ix_(group, other)].mean(axis=1) for other in groups if other is not group
        ]
        outside = np.min(others, axis=0)
        widths[group] = (outside - inside) / np.maximum(np.maximum(inside, outside), 1e-12)
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
    # Of equal sums argmax takes the first, so of two members the one listed first in the pool.
    medoid = int(np.argmax(np.round(inner.sum(axis=1), 12)))
    order = sorted(range(len(members)), key=lambda i: (i != medoid, -inner[medoid, i], i))
    return Group(tuple(names[members[i]] for i in order))
