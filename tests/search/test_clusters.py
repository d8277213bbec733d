"""Clusters: the threshold is a similarity, medoids are central, bad matrices are named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mordal_optuna.errors import SimilarityError
from mordal_optuna.pool import Candidate
from mordal_optuna.search.clusters import (
    ClusterTree,
    Group,
    choose_threshold,
    cluster_models,
    cluster_pool,
)

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


def test_complete_linkage_requires_every_pair_to_be_similar() -> None:
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


LLM_SIMILARITY = {"v1": [[1.0, 0.2], [0.2, 1.0]], "v3": [[1.0, 0.9], [0.9, 1.0]]}
VISION = [[1.0, 0.8, 0.1], [0.8, 1.0, 0.1], [0.1, 0.1, 1.0]]


def test_the_tree_holds_every_candidate_once_and_survives_storage() -> None:
    """LLMs are clustered inside each vision cluster, by its own medoid's similarities."""
    tree = cluster_pool(
        ("v1", "v2", "v3"),
        ("m1", "m2"),
        VISION,
        LLM_SIMILARITY.__getitem__,
        vision_threshold=0.7,
        llm_threshold=0.7,
    )
    assert [(c.vision.members, c.llm.members) for c in tree.clusters] == [
        (("v1", "v2"), ("m1",)),
        (("v1", "v2"), ("m2",)),
        (("v3",), ("m1", "m2")),
    ]
    inside = [c for cluster in tree.clusters for c in cluster.candidates]
    assert sorted(inside) == sorted(tree.candidates)
    assert tree.cluster_of(Candidate("v3", "m2")).candidates[0] == Candidate("v3", "m1")
    assert ClusterTree.from_json(tree.to_json()) == tree


def test_llm_similarities_are_requested_for_medoids_only() -> None:
    asked: list[str] = []

    def similarity(medoid: str) -> list[list[float]]:
        asked.append(medoid)
        return LLM_SIMILARITY[medoid]

    tree = cluster_pool(("v1", "v2", "v3"), ("m1", "m2"), VISION, similarity)
    assert asked == ["v1", "v3"]
    assert tree.thresholds is not None
    assert set(tree.thresholds.llms) == {"v1", "v3"}


def blocks(*sizes: int, inside: float, outside: float) -> np.ndarray:
    """Groups of models, alike inside and less so outside."""
    label = np.repeat(np.arange(len(sizes)), sizes)
    matrix = np.where(label[:, None] == label[None, :], inside, outside)
    np.fill_diagonal(matrix, 1.0)
    return matrix


@pytest.mark.parametrize("sizes", [(3, 3), (2, 4, 1), (2, 2, 2, 2)])
@pytest.mark.parametrize(("inside", "outside"), [(0.8, 0.1), (0.95, 0.7), (0.5, -0.02)])
def test_a_chosen_threshold_finds_groups_whatever_the_scale(
    sizes: tuple[int, ...], inside: float, outside: float
) -> None:
    """Planted groups with noise are found, though no fixed threshold would fit all scales."""
    noise = np.random.default_rng(0).normal(scale=0.02, size=(sum(sizes),) * 2)
    similarity = blocks(*sizes, inside=inside, outside=outside) + (noise + noise.T) / 2
    np.fill_diagonal(similarity, 1.0)
    names = tuple(f"m{i}" for i in range(sum(sizes)))
    threshold = choose_threshold(names, similarity)
    found = cluster_models(names, similarity, threshold=threshold)
    assert sorted(len(g.members) for g in found) == sorted(sizes)


def test_without_structure_every_model_is_a_cluster() -> None:
    """Evenly unlike models stay alone; a medoid would be no better than any other model."""
    noise = np.random.default_rng(1).normal(scale=0.05, size=(7, 7))
    similarity = 0.4 + (noise + noise.T) / 2
    np.fill_diagonal(similarity, 1.0)
    names = tuple("abcdefg")
    found = cluster_models(names, similarity, threshold=choose_threshold(names, similarity))
    assert len(found) == 7


def test_models_that_are_all_similar_are_one_cluster() -> None:
    similarity = blocks(5, inside=0.93, outside=0)
    names = tuple("abcde")
    found = cluster_models(names, similarity, threshold=choose_threshold(names, similarity))
    assert len(found) == 1
    assert choose_threshold(("a",), [[1.0]]) == 0.9


def test_one_odd_model_does_not_join_the_others() -> None:
    """Six that are .6 alike and one that is .1 make a clear cut, which a least of .7 refuses."""
    similarity = blocks(6, 1, inside=0.6, outside=0.1)
    names = tuple("abcdefg")
    for least, sizes in ((-1.0, [1, 6]), (0.5, [1, 6]), (0.7, [1] * 7)):
        cut = choose_threshold(names, similarity, least=least)
        found = cluster_models(names, similarity, threshold=cut)
        assert sorted(len(g.members) for g in found) == sizes
        tree = cluster_pool(names, ("m",), similarity, lambda _: [[1.0]], least=least)
        assert len(tree.clusters) == len(sizes)


def test_two_models_are_clustered_only_when_similar() -> None:
    for similarity, clusters in ((0.95, 1), (0.8, 2), (-0.02, 2)):
        matrix = [[1.0, similarity], [similarity, 1.0]]
        cut = choose_threshold(("a", "b"), matrix)
        assert len(cluster_models(("a", "b"), matrix, threshold=cut)) == clusters


@pytest.mark.parametrize("threshold", ["auto", -1.0])
def test_a_model_that_was_not_compared_shifts_no_cut(threshold: Any) -> None:
    """Its similarity of -1 to all others would make one clear cluster of them."""
    names = ("a", "faulty", "b", "c", "d")
    others = blocks(2, 2, inside=0.95, outside=0.6)
    similarity = 2.0 * np.eye(5) - 1.0
    similarity[np.ix_([0, 2, 3, 4], [0, 2, 3, 4])] = others

    def clusters(llms: tuple[str, ...], matrix: np.ndarray, left_out: tuple[str, ...]) -> Any:
        tree = cluster_pool(
            ("v",), llms, [[1.0]], lambda _: matrix, llm_threshold=threshold, left_out=left_out
        )
        return [c.llm.members for c in tree.clusters], tree.thresholds

    found, cut = clusters(names, similarity, ("faulty",))
    alone, expected = clusters(("a", "b", "c", "d"), others, ())
    assert cut == expected
    assert [members for members in found if members != ("faulty",)] == alone
    assert found[1] == ("faulty",)
