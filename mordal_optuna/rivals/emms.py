"""EMMS: how well features explain several embeddings of the answers (Meng et al. 2023, NeurIPS).

Symbols:
    X, N, D   features, N documents x D wide
    Z_k       k-th of K embeddings of the answers, N x L
    t         weights of the embeddings, in the simplex (at least 0, adding up to 1)
    T         sum_k t_k Z_k, the unified embedding, N x L
    w         linear map, D x L
    R_k       residual of Z_k after the regression on X, N x L
    G         K x K, G[j, k] = sum of R_j * R_k, divided by N L

    EMMS = - min_{w, t} |Xw - T|^2 / (N L)

with all columns of X and Z_k standardised. The mean over the L outputs gives the range -1 to 0; L
is the same for all candidates. For given t the best w is the least squares solution, so the loss
is t'Gt: a convex problem in K weights, to whose minimum alternating least squares converges too.

In-sample residuals reward width: N features explain any embedding. Two corrections are offered:
least squares on the same number of principal components for all candidates, and residuals of
held-out documents.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from scipy.optimize import nnls
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold

from mordal_optuna.errors import RivalError
from mordal_optuna.rivals.checks import Floats, column_space, matrix, one_of, stack, standardised

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Form = Literal["cross-validated", "projected", "in-sample", "compatible"]

# Candidate ridge penalties, in units of max(N, D), which is about the mean eigenvalue of X'X.
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
    """EMMS of one candidate.

    Args:
        features: X, N x D.
        embeddings: embeddings Z_k of the answers, K x N x L.
        form: `cross-validated`: residuals of held-out documents under a ridge regression whose
            penalty is chosen for each output by leave-one-out within the training folds (plain
            least squares would penalise widths near N); t minimises the held-out residuals, as in
            stacked regressions (Breiman 1996). `projected`: in-sample, on the first `width`
            principal components. `in-sample`: the formula above. `compatible`: the authors'
            code, one round of the alternation, see `_their_score`.
        width: number of principal components for `projected`, the same for all compared
            candidates; None for the other forms.
        folds: number of folds for `cross-validated`, from 2 to N / 2.
        seed: random seed of the folds.

    Returns:
        The score, at most 0; higher is better.

    Raises:
        RivalError: if shapes do not match, an option is not allowed, or the features or one
            embedding are the same for all documents.
    """
    one_of("form", form, get_args(Form))
    raw = matrix("features", features)
    inputs = standardised(raw)
    if not inputs.any():
        raise RivalError("all documents have the same features; EMMS needs some that differ")
    targets = np.stack([standardised(z) for z in stack("embeddings", embeddings, rows=len(raw))])
    if not targets.any(axis=(1, 2)).all():
        raise RivalError(
            "an embedding is the same for all documents, so any features explain it; leave it out"
        )
    if (width is not None) != (form == "projected"):
        raise RivalError(
            f"got form {form!r} with width {width}; 'projected' needs a width, the other forms "
            "take none"
        )
    match form:
        case "compatible":
            return _their_score(inputs, targets)
        case "cross-validated":
            residuals = _held_out(inputs, targets, folds, seed)
        case "projected":
            residuals = _in_sample(_components(inputs, width or 0), targets)
        case "in-sample":
            residuals = _in_sample(inputs, targets)
    gram = np.einsum("jnl,knl->jk", residuals, residuals) / residuals[0].size
    t = simplex_minimum(gram)
    return -float(max(t @ gram @ t, 0.0))


def simplex_minimum(gram: Floats) -> Floats:
    """The exact minimiser t of t'Gt in the simplex.

    With G = A'A, t is the minimiser u >= 0 of |Au|^2 + (sum u - 1)^2, scaled to a sum of 1: for
    u = s t the best s gives q / (1 + q) with q = t'Gt, which increases with q.

    Args:
        gram: G, K x K, symmetric, eigenvalues at least 0.

    Returns:
        t, K values, at least 0, with a sum of 1.
    """
    # scaled to trace 1, so that neither term of the sum dominates
    values, vectors = np.linalg.eigh(gram / max(float(np.trace(gram)), np.finfo(float).tiny))
    root = np.sqrt(np.clip(values, 0, None))[:, None] * vectors.T
    system = np.vstack([root, np.ones(len(gram))])
    u, _ = nnls(system, np.append(np.zeros(len(gram)), 1.0))
    return u / u.sum()


def project_to_simplex(values: Floats) -> Floats:
    """The nearest point of the simplex (sparsemax, Martins and Astudillo 2016).

    Args:
        values: K values.

    Returns:
        K values, at least 0, with a sum of 1.
    """
    ordered = np.sort(values)[::-1]
    excess = (np.cumsum(ordered) - 1) / np.arange(1, len(values) + 1)
    threshold = excess[np.flatnonzero(ordered > excess)[-1]]
    return np.maximum(values - threshold, 0)


def _components(features: Floats, width: int) -> Floats:
    left, singular = column_space(features)
    if not 1 <= width <= len(singular):
        raise RivalError(
            f"width: got {width}; features of rank {len(singular)} allow 1 to {len(singular)} "
            "principal components"
        )
    return left[:, :width] * singular[:width]


def _in_sample(features: Floats, targets: Floats) -> Floats:
    left, _ = column_space(features)
    return targets - left @ (left.T @ targets)


def _held_out(features: Floats, targets: Floats, folds: int, seed: int) -> Floats:
    n, width = features.shape
    if not 2 <= folds <= n // 2:
        raise RivalError(f"folds: got {folds} folds of {n} documents; allowed are 2 to {n // 2}")
    flat = np.concatenate(list(targets), axis=1)  # N x K L
    residuals = np.empty_like(flat)
    for train, test in KFold(folds, shuffle=True, random_state=seed).split(features):
        penalties = _PENALTIES * max(len(train), width)
        ridge = RidgeCV(alphas=penalties, alpha_per_target=True)
        ridge.fit(features[train], flat[train])
        residuals[test] = flat[test] - ridge.predict(features[test]).reshape(len(test), -1)
    return np.stack(np.split(residuals, len(targets), axis=1))


def _their_score(features: Floats, targets: Floats) -> float:
    """The result of the authors' code.

    One round of the alternation: w by least squares on the mean embedding; t by unconstrained
    least squares, then projected to the simplex; the residual of the new t and the old w. The
    code divides by N and, by operator precedence, *multiplies* by L, which changes no ranking.
    """
    mean = targets.mean(axis=0)
    left, _ = column_space(features)
    predicted = left @ (left.T @ mean)
    system = targets.reshape(len(targets), -1).T  # N L x K
    t = project_to_simplex(np.linalg.lstsq(system, predicted.ravel(), rcond=None)[0])
    residual = predicted - np.tensordot(t, targets, axes=1)
    n, outputs = mean.shape
    return -float(np.sum(residual**2)) / n * outputs
