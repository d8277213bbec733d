"""EMMS: how well features explain several embeddings of the answers (Meng et al. 2023, NeurIPS).

Symbols:
    X, N, D   features, N documents x D wide
    Z_k       k-th of K embeddings of the answers, N x L
    t         weights of the embeddings, in the simplex (at least 0, adding up to 1)
    T         sum_k t_k Z_k, the unified embedding, N x L
    w         linear map, D x L
    R_k       what X leaves unexplained of Z_k, N x L
    G         K x K, G[j, k] = sum of R_j * R_k, divided by N L

    EMMS = - min_{w, t} |Xw - T|^2 / (N L)

all columns of X and Z_k standardised. The mean over the L outputs makes 0 to -1 the range; L is
the same for all candidates. For a given t the best w is that of least squares, so the residual is
t'Gt: a convex problem in K weights, to whose minimum alternating least squares converges as well.

In-sample residuals reward width: N features explain anything. Two corrections: least squares on
the same number of principal components for all candidates, or residuals of documents that the fit
has not seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.optimize import nnls
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold

from mordal_optuna.errors import RivalError
from mordal_optuna.rivals.checks import Floats, matrix, stack, standardised

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Form = Literal["cross-validated", "projected", "in-sample", "compatible"]

# Ridge penalties tried, in units of max(N, D), about the mean eigenvalue of X'X.
_PENALTIES = np.logspace(-4, 4, 17)


def emms(
    features: ArrayLike,
    embeddings: ArrayLike,
    *,
    form: Form = "cross-validated",
    width: int | None = None,
    folds: int = 5,
    seed: int = 0,
) -> float:
    """EMMS.

    Args:
        features: X, N x D.
        embeddings: the Z_k, K x N x L.
        form: `cross-validated`: residuals of held-out documents under a ridge regression whose
            penalty is chosen for each output by leave-one-out inside the training folds (least
            squares alone would punish widths near N); t is the best for the held-out residuals,
            as in stacked regressions (Breiman 1996). `projected`: in-sample, on the first `width`
            principal components. `in-sample`: the formula as it stands. `compatible`: the
            authors' code, one round of the alternation, see `_their_score`.
        width: principal components of `projected`, the same for all candidates that are compared.
        folds: of `cross-validated`, at least 2.
        seed: which documents are in which fold.

    Returns:
        The score, at most 0, higher is better.

    Raises:
        RivalError: if the arrays do not fit, all features or one embedding are the same for all
            documents, or `width` or `folds` cannot be used.
    """
    raw = matrix("features", features)
    known = standardised(raw)
    if not known.any():
        raise RivalError("all documents have the same features; EMMS needs some that differ")
    targets = np.stack([standardised(z) for z in stack("embeddings", embeddings, rows=len(raw))])
    if not targets.any(axis=(1, 2)).all():
        raise RivalError(
            "an embedding is the same for all documents, which anything explains; leave it out"
        )
    if (width is not None) != (form == "projected"):
        raise RivalError(
            f"form {form!r} with a width of {width} was asked for; 'projected' needs a width, "
            "the others take none"
        )
    match form:
        case "compatible":
            return _their_score(known, targets)
        case "cross-validated":
            residuals = _held_out(known, targets, folds, seed)
        case "projected":
            residuals = _in_sample(_components(known, width or 0), targets)
        case "in-sample":
            residuals = _in_sample(known, targets)
    gram = np.einsum("jnl,knl->jk", residuals, residuals) / residuals[0].size
    t = simplex_minimum(gram)
    return -float(max(t @ gram @ t, 0.0))


def simplex_minimum(gram: Floats) -> Floats:
    """The t in the simplex with the smallest t'Gt, exactly.

    With G = A'A it is the least squares problem |Au|^2 + (sum u - 1)^2 over u >= 0, scaled to add
    up to 1: for u = s t the best s gives q / (1 + q) with q = t'Gt, which grows with q.

    Args:
        gram: G, K x K, symmetric, eigenvalues at least 0.

    Returns:
        t, K values.
    """
    # in units of its own size, so that neither term of the sum drowns the other
    values, vectors = np.linalg.eigh(gram / max(float(np.trace(gram)), np.finfo(float).tiny))
    root = np.sqrt(np.clip(values, 0, None))[:, None] * vectors.T
    system = np.vstack([root, np.ones(len(gram))])
    u, _ = nnls(system, np.append(np.zeros(len(gram)), 1.0))
    return u / u.sum()


def project_to_simplex(values: Floats) -> Floats:
    """The nearest point of the simplex (sparsemax, Martins and Astudillo 2016).

    Args:
        values: K numbers.

    Returns:
        K numbers, at least 0, adding up to 1.
    """
    ordered = np.sort(values)[::-1]
    excess = (np.cumsum(ordered) - 1) / np.arange(1, len(values) + 1)
    threshold = excess[np.flatnonzero(ordered > excess)[-1]]
    return np.maximum(values - threshold, 0)


def _basis(features: Floats) -> tuple[Floats, Floats]:
    """Left singular vectors of the columns' span, N x k, and the singular values, k."""
    left, singular, _ = np.linalg.svd(features, full_matrices=False)
    least = singular[0] * max(features.shape) * np.finfo(float).eps
    rank = int(np.sum(singular > least))
    return left[:, :rank], singular[:rank]


def _components(features: Floats, width: int) -> Floats:
    left, singular = _basis(features)
    if not 1 <= width <= len(singular):
        raise RivalError(
            f"width {width} was asked for; features of rank {len(singular)} have 1 to "
            f"{len(singular)} principal components"
        )
    return left[:, :width] * singular[:width]


def _in_sample(features: Floats, targets: Floats) -> Floats:
    left, _ = _basis(features)
    return targets - left @ (left.T @ targets)


def _held_out(features: Floats, targets: Floats, folds: int, seed: int) -> Floats:
    n, width = features.shape
    if not 2 <= folds <= n // 2:
        raise RivalError(
            f"{folds} folds of {n} documents were asked for; allowed are 2 to {n // 2}"
        )
    flat = np.concatenate(list(targets), axis=1)  # N x K L
    left = np.empty_like(flat)
    for train, test in KFold(folds, shuffle=True, random_state=seed).split(features):
        penalties = _PENALTIES * max(len(train), width)
        ridge = RidgeCV(alphas=penalties, alpha_per_target=True)
        ridge.fit(features[train], flat[train])
        left[test] = flat[test] - ridge.predict(features[test]).reshape(len(test), -1)
    return np.stack(np.split(left, len(targets), axis=1))


def _their_score(features: Floats, targets: Floats) -> float:
    """As the authors' code computes it.

    One round: w by least squares on the mean embedding; t by unconstrained least squares, then
    projected to the simplex; the residual with the new t and the old w. Divided by N and, by the
    order of its operators, *multiplied* by L, which changes no ranking.
    """
    mean = targets.mean(axis=0)
    left, _ = _basis(features)
    predicted = left @ (left.T @ mean)
    system = targets.reshape(len(targets), -1).T  # N L x K
    t = project_to_simplex(np.linalg.lstsq(system, predicted.ravel(), rcond=None)[0])
    residual = predicted - np.tensordot(t, targets, axes=1)
    n, outputs = mean.shape
    return -float(np.sum(residual**2)) / n * outputs
