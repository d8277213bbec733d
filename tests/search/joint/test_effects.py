"""The prior of the joint model."""

from __future__ import annotations

import numpy as np
import pytest

from mordal_optuna.search.joint.effects import (
    ERROR,
    LIKELIHOOD,
    PRIOR,
    Correlations,
    Hyperparameters,
    Places,
    covariance,
    variance,
)

VALUES = Hyperparameters.of(PRIOR.logs)
FREE = Correlations.none(3, 3)


def places(rows: list[tuple[int, int, float, int]]) -> Places:
    i, j, x, kind = zip(*rows, strict=True)
    return Places(np.array(i), np.array(j), np.array(x), np.array(kind))


MANY = places(
    [(i, j, x, q) for i in range(3) for j in range(3) for x in (-5, -1, 0) for q in (0, 1)]
)


def test_the_covariance_is_positive_definite_and_has_the_stated_diagonal() -> None:
    whole = covariance(VALUES, FREE, MANY, MANY)
    assert np.linalg.eigvalsh(whole + 1e-9 * np.eye(len(MANY))).min() > 0
    assert whole.diagonal() == pytest.approx(variance(VALUES, MANY))


def test_pairs_share_what_their_parts_share() -> None:
    """Beyond the common curve: two encoders apart nothing, one model its effect."""
    rows = places([(0, 0, 0.0, ERROR)])
    others = places([(1, 1, 0.0, ERROR), (0, 1, 0.0, ERROR), (1, 0, 0.0, ERROR)])
    none, encoder, llm = covariance(VALUES, FREE, rows, others)[0]
    assert encoder - none == pytest.approx(VALUES.spreads[0] ** 2)
    assert llm - none == pytest.approx(VALUES.spreads[1] ** 2)


def test_differences_of_pairs_grow_with_training() -> None:
    def spread(x: float) -> float:
        two = places([(0, 0, x, ERROR), (1, 1, x, ERROR)])
        whole = covariance(VALUES, FREE, two, two)
        return float(whole[0, 0] + whole[1, 1] - 2 * whole[0, 1])

    assert spread(-4.0) < spread(-1.0) < spread(0.0)


def test_likelihoods_have_a_common_curve_of_their_own() -> None:
    error = places([(0, 0, -4.0, ERROR)])
    both = places([(1, 1, -4.0, LIKELIHOOD), (0, 0, -4.0, LIKELIHOOD)])
    other, same = covariance(VALUES, FREE, error, both)[0]
    assert other == pytest.approx(0.0)
    assert same > 0


def test_rows_can_be_taken_and_joined() -> None:
    again = Places.joined([MANY.part(slice(0, 5)), MANY.part(np.arange(5, len(MANY)))])
    assert (again.x == MANY.x).all()
    assert (again.kind == MANY.kind).all()
