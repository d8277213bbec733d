"""Clusters: the threshold is a similarity, medoids are central, bad matrices are named."""

from __future__ import annotations

import numpy as np
import pytest

from mordal_optuna.errors import SimilarityError
from mordal_optuna.pool import Candidate
from mordal_optuna.search.clusters import ClusterTree, Group, cluster_models, cluster_pool

NAMES = ("a", "b", "c", "d")
# a, b, c alike with b in the middle; d apart.
SIMILARITY = np.array(
    [
        [1.0, 0.9, 0.75, 0.1],
        [0.9, 1.0, 0.85, 0.1],
        [0.75, 0.85, 1.0, -0.05],
        [0.1, 0.1, -0.05, 1.0],
    ]
)


def groups(threshold: float) -> list[tuple[str, ...]]:
    found = cluster_models(NAMES, SIMILARITY, threshold=threshold)
    return [group.members for group in found]


def test_a_higher_threshold_gives_more_clusters() -> None:
    counts = [len(groups(t)) for t in (-1.0, 0.0, 0.7, 0.88, 0.95)]
    assert counts == [1, 1, 2, 3, 4]


def test_the_medoid_is_the_most_central_member_and_comes_first() -> None:
    assert groups(0.7) == [("b", "a", "c"), ("d",)]


def test_complete_linkage_asks_every_pair_to_be_alike() -> None:
    found = cluster_models(NAMES, SIMILARITY, threshold=0.8, linkage="complete")
    assert [set(g.members) for g in found] == [{"a", "b"}, {"c"}, {"d"}]
    found = cluster_models(NAMES, SIMILARITY, threshold=0.8, linkage="single")
    assert [set(g.members) for g in found] == [{"a", "b", "c"}, {"d"}]


def test_one_model_and_equal_models() -> None:
    assert cluster_models(("a",), [[1.0]], threshold=0.7) == (Group(("a",)),)
    assert len(cluster_models(NAMES, np.ones((4, 4)), threshold=0.99)) == 1


def test_a_nan_names_its_pair() -> None:
    broken = SIMILARITY.copy()
    broken[0, 2] = broken[2, 0] = np.nan
    with pytest.raises(SimilarityError, match="'a' and 'c'.*must be a number") as caught:
        cluster_models(NAMES, broken, threshold=0.7)
    assert caught.value.pair == ("a", "c")


def test_asymmetry_and_wrong_shape_are_refused() -> None:
    crooked = SIMILARITY.copy()
    crooked[0, 1] = 0.2
    with pytest.raises(SimilarityError, match="'a' and 'b'.*symmetric"):
        cluster_models(NAMES, crooked, threshold=0.7)
    with pytest.raises(SimilarityError, match=r"\(4, 4\) was given for 3 models"):
        cluster_models(NAMES[:3], SIMILARITY, threshold=0.7)


def test_the_tree_holds_every_candidate_once_and_survives_storage() -> None:
    vision = [Group(("v1", "v2")), Group(("v3",))]
    llm = {"v1": [Group(("m1",)), Group(("m2",))], "v3": [Group(("m2", "m1"))]}
    tree = cluster_pool(vision, llm, vision_encoders=("v1", "v2", "v3"), llms=("m1", "m2"))
    inside = [c for cluster in tree.clusters for c in cluster.candidates]
    assert sorted(inside) == sorted(tree.candidates)
    assert tree.cluster_of(Candidate("v3", "m1")).candidates[0] == Candidate("v3", "m2")
    assert ClusterTree.from_json(tree.to_json()) == tree


def test_a_medoid_without_llm_clusters_is_refused() -> None:
    with pytest.raises(SimilarityError, match="'v3' needs its own"):
        cluster_pool([Group(("v3",))], {}, vision_encoders=("v3",), llms=("m",))
