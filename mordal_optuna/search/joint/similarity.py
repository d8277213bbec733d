"""Correlations of models' effects from their similarities: soft clusters.

Symbols:
    s_ij  similarity of models i and j (CKA; debiased CKA may be slightly negative)
    f     share of an effect's variance that similar models have in common
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from mordal_optuna.search.joint.effects import Floats

# Share of the common variance, and the power of the similarity: of two models with a CKA of .9
# the effects are correlated by f .9^3.
_COMMON, _POWER = 0.5, 3.0
# Smallest eigenvalue of a correlation matrix.
_LEAST = 1e-6


def correlations_of(similarity: ArrayLike, *, common: float = _COMMON) -> Floats:
    """Prior correlations of the effects of models, (1 - f) I + f S with S_ij = max(s_ij, 0)^3.

    S is made positive definite by raising its eigenvalues, and scaled back to 1 on its diagonal.

    Args:
        similarity: similarities, M x M, symmetric, finite.
        common: f, 0 to 1.

    Returns:
        M x M, 1 on the diagonal.
    """
    shape = np.clip(np.asarray(similarity, dtype=float), 0.0, 1.0) ** _POWER
    np.fill_diagonal(shape, 1.0)
    values, vectors = np.linalg.eigh((shape + shape.T) / 2)
    shape = (vectors * np.maximum(values, _LEAST)) @ vectors.T
    scale = np.sqrt(shape.diagonal())
    shape = shape / scale / scale[:, None]
    return (1 - common) * np.eye(len(shape)) + common * shape
