"""Centred kernel alignment (CKA) with linear kernels, streamed over images.

Symbols:
    n        images
    M        models
    X, Y     features of two models, n x d_x and n x d_y, columns centred
    K, L     Gram matrices X X' and Y Y'; k_i, l_i their diagonals
    H        centring matrix I - 1 1' / n
    HSIC     Hilbert-Schmidt independence criterion of K and L
    CKA      HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L))
    m        number of images in a minibatch

Estimators of HSIC, up to factors that cancel in CKA:
    biased     Tr(K H L H), as in the paper; for unrelated features CKA tends to d / (n + d)
               instead of 0.
    debiased   unbiased: Song et al. 2012 ("Feature selection via dependence maximization", eq. 5).
    minibatch  mean of the unbiased estimate over minibatches of m images, taken before the ratio
               (Nguyen, Raghu and Kornblith 2021, eq. 3); needs only m x m blocks of a Gram matrix.

With centred columns K 1 = 0, so the off-diagonal part of K has the row sums -k_i, and Song's
equation 5 simplifies to |X'Y|^2 - (n / (n - 2)) sum k_i l_i + sum k_i sum l_i / ((n-1)(n-2)) with
|X'Y|^2 = sum_ij K_ij L_ij. Either side of the last equation can be computed: d_x x d_y feature
products (faster for many images) or n x n Gram matrices shared by all pairs (faster for many or
wide models).
"""

from __future__ import annotations

from itertools import combinations_with_replacement
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch

from mordal_optuna.errors import SimilarityError
from mordal_optuna.representation.checks import check_features

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Estimator = Literal["biased", "debiased", "minibatch"]
Form = Literal["auto", "gram", "feature"]

# Number of entries of the M Gram blocks in memory: 256 MB in double precision.
_BLOCK_ENTRIES = 2**25
# Smallest n for which the unbiased estimator is defined.
_LEAST_IMAGES = 4


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
        features: features of each of M models, images x width, on the same n >= 4 images in the
            same order; widths may differ.
        estimator: estimator of HSIC.
        minibatch: m, at least 4, for the minibatch estimator; a smaller last one is left out.
        form: Gram matrices or feature products; `auto` for the cheaper form.
        device: torch device of the computation.
        dtype: precision of the products; products are always summed in double precision.

    Returns:
        M x M, symmetric, 1 on the diagonal, in the order of `features`. Biased values lie in
        0..1; debiased values may be slightly negative.

    Raises:
        SimilarityError: if an option is not allowed, or features are no matrix of numbers, differ
            in n, or are the same for all images; names the models.
    """
    check_estimator(estimator, minibatch)
    if form not in get_args(Form):
        raise SimilarityError(f"form: got {form!r}; allowed are {', '.join(get_args(Form))}")
    names = list(features)
    check_features(features, least=_LEAST_IMAGES)
    _check_variation(features)
    n = len(features[names[0]])
    # Centre in double precision first: a common offset would cost digits in single precision.
    centred_double = [
        torch.as_tensor(np.asarray(f, dtype=np.float64) - np.mean(f, axis=0, dtype=np.float64))
        for f in features.values()
    ]
    centred = [x.to(device=device, dtype=dtype) for x in centred_double]
    if estimator == "minibatch":
        hsic = _minibatch_hsic(centred, min(minibatch, n), form)
    else:
        hsic = _hsic(centred, estimator, form)
    return _ratio(names, hsic)


def check_estimator(estimator: str, minibatch: int) -> None:
    """Refuse an unknown estimator, or minibatches below 4 images.

    Args:
        estimator: estimator of HSIC.
        minibatch: m, number of images.

    Raises:
        SimilarityError: if either is not allowed.
    """
    if estimator not in get_args(Estimator):
        allowed = ", ".join(get_args(Estimator))
        raise SimilarityError(f"estimator: got {estimator!r}; allowed are {allowed}")
    if minibatch < _LEAST_IMAGES:
        raise SimilarityError(
            f"minibatch: got {minibatch} images; at least {_LEAST_IMAGES} are needed"
        )


def cheaper_form(n: int, widths: Sequence[int]) -> Literal["gram", "feature"]:
    """The form with fewer multiplications for all pairs of models.

    Args:
        n: number of images.
        widths: feature width of each model.
    """
    gram = sum(n * n * d for d in widths) + n * n * len(widths) * (len(widths) + 1) // 2
    feature = sum(n * p * q for p, q in combinations_with_replacement(widths, 2))
    return "gram" if gram <= feature else "feature"


def _check_variation(features: Mapping[str, np.ndarray]) -> None:
    for name, values in features.items():
        x = np.asarray(values, dtype=np.float64)
        if ((x - x.mean(axis=0)) ** 2).sum() <= 1e-20 * (x**2).sum():  # at most rounding error
            raise SimilarityError(
                "its features are the same for every image; they must differ between images",
                (name, name),
            )


def _hsic(centred: Sequence[torch.Tensor], estimator: Estimator, form: Form) -> np.ndarray:
    """HSIC of all pairs, M x M, up to a common factor."""
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
    """Sums of products of Gram matrices, by blocks of rows, so that only M blocks are in memory.

    Gram matrices are symmetric: a block covers the columns from its diagonal square on, and the
    part right of that square counts twice.
    """
    n, models = len(centred[0]), len(centred)
    total = torch.zeros(models, models, dtype=torch.float64, device=centred[0].device)
    rows = max(1, min(n, _BLOCK_ENTRIES // (models * n)))
    for start in range(0, n, rows):
        block = slice(start, start + rows)
        square = torch.stack([(x[block] @ x[block].T).flatten() for x in centred])
        total += (square @ square.T).double()
        if start + rows < n:
            rest = torch.stack([(x[block] @ x[start + rows :].T).flatten() for x in centred])
            total += 2 * (rest @ rest.T).double()
    return total.cpu().numpy()


def _from_features(centred: Sequence[torch.Tensor]) -> np.ndarray:
    total = np.zeros((len(centred), len(centred)))
    for i, j in combinations_with_replacement(range(len(centred)), 2):
        product = centred[i].T @ centred[j]
        total[i, j] = total[j, i] = float((product.double() ** 2).sum())
    return total


def _minibatch_hsic(shifted: Sequence[torch.Tensor], size: int, form: Form) -> np.ndarray:
    n = len(shifted[0])
    batches = []
    for start in range(0, n - size + 1, size):
        parts = [x[start : start + size] for x in shifted]
        batches.append(_hsic([x - x.mean(dim=0) for x in parts], "debiased", form))
    return np.mean(batches, axis=0)


def _ratio(names: Sequence[str], hsic: np.ndarray) -> np.ndarray:
    for name, self_similarity in zip(names, np.diag(hsic), strict=True):
        if self_similarity <= 0:  # possible for unbiased estimates of features without structure
            raise SimilarityError(
                f"got a self-similarity of {self_similarity:.3g}; it must be positive: take more "
                "images",
                (name, name),
            )
    norms = np.sqrt(np.diag(hsic))
    matrix = hsic / np.outer(norms, norms)
    np.fill_diagonal(matrix, 1.0)
    return (matrix + matrix.T) / 2
