"""Centered kernel alignment (CKA) with linear kernels.

Symbols:
    n        images
    X, Y     features of two models, n x d_x and n x d_y
    K, L     Gram matrices X X' and Y Y'
    H        centring matrix I - 1 1' / n
    HSIC     Hilbert-Schmidt independence criterion of K and L
    CKA      HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L))

The biased estimator, Tr(K H L H), is the paper's; for unrelated features it tends to d / (n + d),
not to 0. The debiased one replaces HSIC by the unbiased estimator of Song et al. 2012 ("Feature
selection via dependence maximization", eq. 5; used for CKA by Nguyen, Raghu and Kornblith 2021).
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Literal

import numpy as np

from mordal_optuna.errors import SimilarityError

if TYPE_CHECKING:
    from collections.abc import Mapping

Estimator = Literal["biased", "debiased"]


def cka_matrix(features: Mapping[str, np.ndarray], *, estimator: Estimator) -> np.ndarray:
    """CKA of every pair of models.

    Args:
        features: for each of M models a matrix of images x width; all with the same n >= 4 images
            in the same order. Widths may differ.
        estimator: which estimator of HSIC.

    Returns:
        M x M, symmetric, 1 on the diagonal, in the order of `features`. Biased values are in
        0..1; debiased ones may be slightly negative.

    Raises:
        SimilarityError: for features that are no matrix of numbers, differ in n, or are the same
            for all images, naming the models.
    """
    names = list(features)
    centred = {name: _centred_gram(name, features[name], estimator) for name in names}
    sizes = {name: len(gram) for name, gram in centred.items()}
    for name in names[1:]:
        if sizes[name] != sizes[names[0]]:
            raise SimilarityError(
                f"features of {sizes[names[0]]} and {sizes[name]} images; both must be computed "
                "on the same images",
                (names[0], name),
            )
    norms = {name: _norm(name, gram) for name, gram in centred.items()}
    matrix = np.eye(len(names))
    for i, j in combinations(range(len(names)), 2):
        p, q = names[i], names[j]
        value = float(np.sum(centred[p] * centred[q])) / (norms[p] * norms[q])
        matrix[i, j] = matrix[j, i] = value
    return matrix


def _centred_gram(name: str, features: np.ndarray, estimator: Estimator) -> np.ndarray:
    """A centred Gram matrix such that the sum of products of two of them is n-scaled HSIC.

    For the debiased estimator this is the U-centring of Székely and Rizzo 2014: its inner product
    equals Song's unbiased HSIC up to the factor n (n - 3), which cancels in CKA.
    """
    x = np.asarray(features, dtype=np.float64)
    if x.ndim != 2 or len(x) < 4 or not np.isfinite(x).all():
        raise SimilarityError(
            f"features of shape {x.shape}, all finite: {bool(np.isfinite(x).all())}; they must "
            "be finite numbers, images x width, for at least 4 images",
            (name, name),
        )
    x = x - x.mean(axis=0)  # leaves CKA as it is, and saves digits
    gram = x @ x.T
    n = len(gram)
    if estimator == "biased":
        return gram - gram.mean(axis=0) - gram.mean(axis=1)[:, None] + gram.mean()
    np.fill_diagonal(gram, 0.0)
    rows = gram.sum(axis=1) / (n - 2)
    centred = gram - rows[:, None] - rows[None, :] + gram.sum() / ((n - 1) * (n - 2))
    np.fill_diagonal(centred, 0.0)
    return centred


def _norm(name: str, gram: np.ndarray) -> float:
    norm = float(np.sqrt(np.sum(gram * gram)))
    if norm < 1e-12:
        raise SimilarityError(
            "its features are the same for every image; they must differ between images",
            (name, name),
        )
    return norm
