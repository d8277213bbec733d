"""Centred kernel alignment (CKA) with linear kernels, streamed over images.

Symbols:
    n        images
    M        models
    X, Y     features of two models, n x d_x and n x d_y, columns centred
    K, L     Gram matrices X X' and Y Y'; k_i, l_i their diagonals
    H        centring matrix I - 1 1' / n
    HSIC     Hilbert-Schmidt independence criterion of K and L
    CKA      HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L))
    m        images of a minibatch

Estimators of HSIC, up to factors that cancel in CKA:
    biased     Tr(K H L H), the paper's; for unrelated features CKA tends to d / (n + d), not to 0.
    debiased   unbiased: Song et al. 2012 ("Feature selection via dependence maximization", eq. 5).
    minibatch  mean of the unbiased estimate over minibatches of m images, taken before the ratio
               (Nguyen, Raghu and Kornblith 2021, eq. 3); never needs more than m x m of a Gram.

With centred columns K 1 = 0, so the off-diagonal part of K has the row sums -k_i, and Song's
equation 5 shortens to |X'Y|^2 - (n / (n - 2)) sum k_i l_i + sum k_i sum l_i / ((n-1)(n-2)), where
|X'Y|^2 = sum_ij K_ij L_ij. Either side of that last equation can be computed: d_x x d_y feature
products (good for many images) or n x n Grams, shared by all pairs (good for many or wide models).
"""

from __future__ import annotations

from itertools import combinations_with_replacement
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from mordal_optuna.errors import SimilarityError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Estimator = Literal["biased", "debiased", "minibatch"]
Form = Literal["auto", "gram", "feature"]

# Entries of the M Gram blocks held at once: 256 MB in double precision.
_BLOCK_ENTRIES = 2**25


def cka_matrix(
    features: Mapping[str, np.ndarray],
    *,
    estimator: Estimator,
    minibatch: int = 256,
    form: Form = "auto",
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float64,
) -> np.ndarray:
    """CKA of every pair of models.

    Args:
        features: for each of M models a matrix of images x width; all with the same n >= 4 images
            in the same order. Widths may differ.
        estimator: which estimator of HSIC.
        minibatch: m, at least 4, for the minibatch estimator; a last smaller one is left out.
        form: Gram matrices or feature products; `auto` takes the cheaper.
        device: where to compute.
        dtype: precision of the products; the sums of products are always double.

    Returns:
        M x M, symmetric, 1 on the diagonal, in the order of `features`. Biased values are in
        0..1; debiased ones may be slightly negative.

    Raises:
        SimilarityError: for features that are no matrix of numbers, differ in n, or are the same
            for all images, naming the models.
    """
    names = list(features)
    _check(features)
    n = len(features[names[0]])
    # Differences between images first, in double: a common offset would cost single its digits.
    shifted = [
        torch.as_tensor(np.asarray(f, dtype=np.float64) - np.mean(f, axis=0, dtype=np.float64))
        for f in features.values()
    ]
    placed = [x.to(device=device, dtype=dtype) for x in shifted]
    if estimator == "minibatch":
        hsic = _minibatch_hsic(placed, min(minibatch, n), form)
    else:
        hsic = _hsic(placed, estimator, form)
    return _ratio(names, hsic)


def cheaper_form(n: int, widths: Sequence[int]) -> Literal["gram", "feature"]:
    """The form that takes fewer multiplications for all pairs of models of these widths."""
    gram = sum(n * n * d for d in widths) + n * n * len(widths) * (len(widths) + 1) // 2
    feature = sum(n * p * q for p, q in combinations_with_replacement(widths, 2))
    return "gram" if gram <= feature else "feature"


def _check(features: Mapping[str, np.ndarray]) -> None:
    first = next(iter(features))
    for name, x in features.items():
        finite = bool(np.isfinite(x).all())
        if x.ndim != 2 or len(x) < 4 or not finite:
            raise SimilarityError(
                f"features of shape {x.shape}, all finite: {finite}; they must be finite "
                "numbers, images x width, for at least 4 images",
                (name, name),
            )
        if len(x) != len(features[first]):
            raise SimilarityError(
                f"features of {len(features[first])} and {len(x)} images; both must be computed "
                "on the same images",
                (first, name),
            )
        x = np.asarray(x, dtype=np.float64)
        if ((x - x.mean(axis=0)) ** 2).sum() <= 1e-20 * (x**2).sum():  # rounding is no difference
            raise SimilarityError(
                "its features are the same for every image; they must differ between images",
                (name, name),
            )


def _hsic(centred: Sequence[torch.Tensor], estimator: Estimator, form: Form) -> np.ndarray:
    """HSIC of all pairs, M x M, up to a factor common to all."""
    n = len(centred[0])
    if form == "auto":
        form = cheaper_form(n, [x.shape[1] for x in centred])
    products = _from_grams(centred) if form == "gram" else _from_features(centred)
    if estimator == "biased":
        return products
    diagonals = torch.stack([(x.double() ** 2).sum(dim=1) for x in centred]).cpu().numpy()
    sums = diagonals.sum(axis=1)
    cross = diagonals @ diagonals.T
    return products - n / (n - 2) * cross + np.outer(sums, sums) / ((n - 1) * (n - 2))


def _from_grams(centred: Sequence[torch.Tensor]) -> np.ndarray:
    """Sums of products of Grams, block of rows by block of rows: M blocks in memory, not M Grams.

    The Grams are symmetric, so a block takes the columns from its own rows on, and what lies
    right of the diagonal block counts twice.
    """
    n, models = len(centred[0]), len(centred)
    total = torch.zeros(models, models, dtype=torch.float64, device=centred[0].device)
    rows = max(1, min(n, _BLOCK_ENTRIES // (models * n)))
    for start in range(0, n, rows):
        own = slice(start, start + rows)
        square = torch.stack([(x[own] @ x[own].T).flatten() for x in centred])
        total += (square @ square.T).double()
        if start + rows < n:
            rest = torch.stack([(x[own] @ x[start + rows :].T).flatten() for x in centred])
            total += 2 * (rest @ rest.T).double()
    return total.cpu().numpy()


def _from_features(centred: Sequence[torch.Tensor]) -> np.ndarray:
    total = np.zeros((len(centred), len(centred)))
    for i, j in combinations_with_replacement(range(len(centred)), 2):
        product = centred[i].T @ centred[j]
        total[i, j] = total[j, i] = float((product.double() ** 2).sum())
    return total


def _minibatch_hsic(shifted: Sequence[torch.Tensor], size: int, form: Form) -> np.ndarray:
    if size < 4:
        raise SimilarityError(
            f"minibatches of {size} images; at least 4 are needed", ("minibatch", "minibatch")
        )
    n = len(shifted[0])
    batches = []
    for start in range(0, n - size + 1, size):
        parts = [x[start : start + size] for x in shifted]
        batches.append(_hsic([x - x.mean(dim=0) for x in parts], "debiased", form))
    return np.mean(batches, axis=0)


def _ratio(names: Sequence[str], hsic: np.ndarray) -> np.ndarray:
    for name, own in zip(names, np.diag(hsic), strict=True):
        if own <= 0:  # unbiased estimates of structureless features can be
            raise SimilarityError(
                f"a self-similarity of {own:.3g}, which must be positive; take more images",
                (name, name),
            )
    norms = np.sqrt(np.diag(hsic))
    matrix = hsic / np.outer(norms, norms)
    np.fill_diagonal(matrix, 1.0)
    return (matrix + matrix.T) / 2
