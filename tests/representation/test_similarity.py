"""Mutual nearest neighbours, and the protocol that every measure follows."""

from __future__ import annotations

import numpy as np
import pytest

from mordal_optuna.config import RepresentationSettings
from mordal_optuna.errors import SimilarityError
from mordal_optuna.representation.similarity import Cka, MutualKnn
from mordal_optuna.workbench.comparison import similarity_measure


def test_neighbours_in_common_by_hand() -> None:
    """Four images in two close pairs; exchanging one of each pair leaves nothing in common."""
    angles = np.deg2rad([0, 10, 180, 190])
    x = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    swapped = x[[0, 2, 1, 3]]
    assert MutualKnn(1)({"x": x, "y": x})[0, 1] == 1.0
    assert MutualKnn(1)({"x": x, "y": swapped})[0, 1] == 0.0


def test_unrelated_models_share_k_over_n_minus_one() -> None:
    rng = np.random.default_rng(0)
    features = {name: rng.normal(size=(400, 32)) for name in "ab"}
    assert MutualKnn(20)(features)[0, 1] == pytest.approx(20 / 399, abs=0.02)


def test_one_outlier_drives_cka_to_one_but_not_neighbours() -> None:
    rng = np.random.default_rng(1)
    features = {name: rng.normal(size=(200, 16)) for name in "ab"}
    for x in features.values():
        x[0] = 1e4
    biased = similarity_measure(RepresentationSettings(similarity="cka-biased"), "cpu")  # type: ignore[arg-type]
    assert biased(features)[0, 1] > 0.99
    assert MutualKnn(10)(features)[0, 1] < 0.15


@pytest.mark.parametrize("name", ["cka-debiased", "cka-biased", "cka-minibatch", "mutual-knn"])
def test_every_measure_is_symmetric_with_ones_between_equals(name: str) -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(50, 6))
    features = {"a": x, "b": 2 * x, "c": rng.normal(size=(50, 9))}
    measure = similarity_measure(RepresentationSettings(similarity=name), "cpu")  # type: ignore[arg-type]
    matrix = measure(features)
    np.testing.assert_allclose(matrix, matrix.T)
    np.testing.assert_allclose(np.diag(matrix), 1.0)
    assert matrix[0, 1] == pytest.approx(1.0)
    assert matrix[0, 2] < 0.7


def test_more_neighbours_than_images_are_refused() -> None:
    with pytest.raises(SimilarityError, match="at least 11 images"):
        MutualKnn(10)({"a": np.zeros((5, 2))})


def test_measures_refuse_bounds_that_they_cannot_use() -> None:
    """When they are made, before any features are computed."""
    with pytest.raises(SimilarityError, match="minibatch: got 3 images; at least 4"):
        Cka("minibatch", minibatch=3)
    with pytest.raises(SimilarityError, match="estimator: got 'exact'; allowed are biased, "):
        Cka("exact")  # type: ignore[arg-type]
    with pytest.raises(SimilarityError, match="neighbours: got 0; it must be at least 1"):
        MutualKnn(0)
