"""Correlations from similarities."""

from __future__ import annotations

import numpy as np
import pytest

from mordal_optuna.search.joint.similarity import correlations_of


def test_similar_models_are_correlated_by_half_of_the_cubed_similarity() -> None:
    found = correlations_of([[1.0, 0.9, 0.1], [0.9, 1.0, 0.1], [0.1, 0.1, 1.0]])
    assert found[0, 1] == pytest.approx(0.5 * 0.9**3, abs=1e-6)
    assert found[0, 2] == pytest.approx(0.5 * 0.1**3, abs=1e-6)
    assert found.diagonal() == pytest.approx(np.ones(3))


def test_any_similarities_give_a_correlation_matrix() -> None:
    """Negative ones, and some that no features could have."""
    found = correlations_of([[1.0, 0.95, -0.3], [0.95, 1.0, 0.95], [-0.3, 0.95, 1.0]], common=1.0)
    assert np.linalg.eigvalsh(found).min() > 0
    assert found.diagonal() == pytest.approx(np.ones(3))
    assert np.abs(found).max() <= 1.0 + 1e-12


def test_without_a_common_share_models_are_independent() -> None:
    assert (correlations_of([[1.0, 0.9], [0.9, 1.0]], common=0.0) == np.eye(2)).all()
