"""Arrays and options that cannot be used are refused by name; shared algebra."""

from __future__ import annotations

import numpy as np
import pytest

from mordal_optuna.errors import RivalError
from mordal_optuna.rivals.checks import (
    NONE,
    classes,
    column_space,
    matrix,
    one_hot,
    one_of,
    stack,
    standardised,
)


def test_arrays_of_the_wrong_shape_are_named() -> None:
    with pytest.raises(RivalError, match=r"features: got the shape \(3,\); N rows"):
        matrix("features", np.ones(3))
    with pytest.raises(RivalError, match="4 rows"):
        matrix("features", np.ones((3, 2)), rows=4)
    with pytest.raises(RivalError, match="K x N x L"):
        stack("embeddings", np.ones((3, 2)), rows=3)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_refused(bad: float) -> None:
    with pytest.raises(RivalError, match="no number"):
        matrix("features", [[1.0, bad]])
    with pytest.raises(RivalError, match="no number"):
        stack("embeddings", [[[1.0, bad]]], rows=1)


def test_classes_are_numbered_without_gaps_and_none_is_left_out() -> None:
    numbers, kept = classes(np.array([7, NONE, 2, 7]), rows=4)
    assert numbers.tolist() == [1, 0, 1]
    assert kept.tolist() == [True, False, True, True]


@pytest.mark.parametrize(
    ("labels", "match"),
    [
        (np.array([0.0, 1.0]), "whole"),
        (np.array([0, 1, 1]), "shape"),
        (np.array([0, -2]), "labels: got -2"),
        (np.array([3, 3]), "1 class"),
        (np.array([NONE, NONE]), "0 class"),
    ],
)
def test_labels_that_are_no_classes_are_refused(labels: np.ndarray, match: str) -> None:
    with pytest.raises(RivalError, match=match):
        classes(labels, rows=2)


def test_a_constant_column_is_not_scaled_up() -> None:
    """0.1 + 0.2 differs from 0.3 by rounding error only."""
    values = np.array([[0.1 + 0.2, 1.0], [0.3, 2.0], [0.3, 6.0]])
    found = standardised(values)
    assert not found[:, 0].any()
    assert found[:, 1].mean() == pytest.approx(0)
    assert found[:, 1].std() == pytest.approx(1)


def test_an_option_that_is_not_offered_is_refused() -> None:
    one_of("form", "a", ("a", "b"))
    with pytest.raises(RivalError, match="form: got 'c'; allowed are a, b"):
        one_of("form", "c", ("a", "b"))


def test_indicators_have_one_column_per_class() -> None:
    assert one_hot(np.array([1, 0, 1])).tolist() == [[0, 1], [1, 0], [0, 1]]


def test_the_column_space_has_the_rank_of_the_features() -> None:
    """Repeated columns add no dimension; the singular vectors reproduce the features."""
    features = np.random.default_rng(0).standard_normal((20, 3))
    left, singular = column_space(np.hstack([features, features]))
    assert left.shape == (20, 3)
    assert singular.shape == (3,)
    assert left @ (left.T @ features) == pytest.approx(features)
