"""LEEP: bounds, formula, invariances, and the effect of many source classes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from mordal_optuna.errors import RivalError
from mordal_optuna.rivals.checks import NONE
from mordal_optuna.rivals.leep import leep


def entropy(labels: np.ndarray) -> float:
    share = np.unique(labels, return_counts=True)[1] / len(labels)
    return float(-np.sum(share * np.log(share)))


def drawn(n: int, source: int, sharpness: float, seed: int = 0, targets: int = 20):  # noqa: ANN201
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, targets, n)
    return softmax(sharpness * rng.standard_normal((n, source)), axis=1), labels


@settings(max_examples=50, deadline=None)
@given(
    st.integers(2, 40), st.integers(1, 12), st.floats(0, 30), st.integers(0, 99), st.integers(2, 5)
)
def test_it_lies_between_minus_the_entropy_of_the_classes_and_0(
    n: int, source: int, sharpness: float, seed: int, targets: int
) -> None:
    probabilities, labels = drawn(n, source, sharpness, seed, targets)
    labels[:2] = (0, 1)
    assert -entropy(labels) - 1e-9 <= leep(probabilities, labels) <= 1e-12


def test_constant_probabilities_score_lowest_and_perfect_ones_score_0() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2])
    assert leep(np.full((6, 4), 0.25), labels) == pytest.approx(-entropy(labels))
    assert leep(np.eye(3)[[2, 2, 2, 0, 0, 1]], labels) == pytest.approx(0)


def test_it_is_the_formula() -> None:
    """Computed by loops on a small case."""
    probabilities, labels = drawn(12, 3, 1.0, targets=2)
    joint = np.zeros((2, 3))
    for p, y in zip(probabilities, labels, strict=True):
        joint[y] += p / 12
    expected = 0.0
    for p, y in zip(probabilities, labels, strict=True):
        expected += np.log(sum(joint[y, z] / joint[:, z].sum() * p[z] for z in range(3))) / 12
    assert leep(probabilities, labels) == pytest.approx(expected)


def test_orders_and_names_do_not_matter() -> None:
    probabilities, labels = drawn(80, 10, 2.0, targets=4)
    value = leep(probabilities, labels)
    rng = np.random.default_rng(5)
    order, source = rng.permutation(80), rng.permutation(10)
    names = np.array([9, 3, 11, 0])
    assert leep(probabilities[order], labels[order]) == pytest.approx(value)
    assert leep(probabilities[:, source], names[labels]) == pytest.approx(value)


@pytest.mark.slow
def test_with_many_source_classes_it_only_measures_how_peaked_they_are() -> None:
    """10,000 random source classes: about -.08 without any signal; the lowest is -2.99."""
    values = []
    for sharpness in (1.0, 3.0, 25.0):
        probabilities, labels = drawn(1000, 10_000, sharpness)
        values.append(leep(probabilities, labels))
    assert -entropy(labels) == pytest.approx(-2.99, abs=0.01)
    assert values == sorted(values)
    assert values[0] < -2.9
    assert values[-1] == pytest.approx(-0.08, abs=0.03)


def test_a_fixed_small_set_of_source_classes_is_not_fooled() -> None:
    """The remedy: far fewer source classes than documents, the same for all candidates."""
    for sharpness in (1.0, 25.0):
        probabilities, labels = drawn(1000, 20, sharpness)
        assert leep(probabilities, labels) < -entropy(labels) + 0.25


def test_a_source_class_of_probability_0_changes_nothing() -> None:
    probabilities, labels = drawn(50, 5, 1.0, targets=3)
    wider = np.hstack([probabilities, np.zeros((50, 2))])
    assert leep(wider, labels) == pytest.approx(leep(probabilities, labels))


def test_documents_without_a_class_are_left_out() -> None:
    probabilities, labels = drawn(50, 5, 1.0, targets=3)
    some = np.where(np.arange(50) % 5, labels, NONE)
    kept = some != NONE
    assert leep(probabilities, some) == pytest.approx(leep(probabilities[kept], labels[kept]))


def test_rows_that_are_no_probabilities_are_refused() -> None:
    with pytest.raises(RivalError, match="add up to 2 to 2"):
        leep(np.ones((4, 2)), np.array([0, 1, 0, 1]))
    with pytest.raises(RivalError, match="range from -1"):
        leep(np.array([[2.0, -1.0]] * 4), np.array([0, 1, 0, 1]))
