"""NLEEP: LEEP with clusters of the features as source classes (Li et al. 2021, CVPR).

Symbols:
    X, N, D   features, N documents x D wide
    P         posteriors of the components of a Gaussian mixture, N x Z

Principal components up to 80 % of the variance, a Gaussian mixture on them, then `leep` with P.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture

from mordal_optuna.errors import RivalError
from mordal_optuna.rivals.checks import classes, matrix
from mordal_optuna.rivals.leep import leep

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Covariance = Literal["full", "tied", "diag", "spherical"]


def nleep(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4),
    variance: float = 0.8,
    ratio: int = 5,
    documents_each: int = 10,
    covariance: Covariance = "diag",
) -> float:
    """NLEEP, averaged over seeds of the mixture.

    Args:
        features: X, N x D.
        labels: a class a document; documents of class `checks.NONE` are left out.
        seeds: one mixture each; the score is their mean.
        variance: share that the principal components keep, 0..1.
        ratio: components a class.
        documents_each: there are never more components than one for so many documents: with few
            documents a component any posterior is right by chance.
        covariance: of a component. The original does not say; principal components are
            uncorrelated, and full matrices have more parameters than a few hundred documents
            can tell.

    Returns:
        Nats a document, at most 0, higher is better.

    Raises:
        RivalError: if the arrays do not fit, there are fewer than two classes, fewer than two
            components are left, or all features are equal.
    """
    known = matrix("features", features)
    numbers, kept = classes(labels, rows=len(known))
    used = known[kept]
    components = min(ratio * (int(numbers.max()) + 1), len(used) // documents_each)
    if components < 2 or not seeds:
        raise RivalError(
            f"{len(used)} documents with a class give {components} component(s) of at least "
            f"{documents_each} documents, {len(seeds)} seed(s); at least 2 and 1 are needed"
        )
    if not np.ptp(used, axis=0).any():
        raise RivalError("all documents have the same features; a mixture needs some that differ")
    reduced = PCA(variance, svd_solver="full").fit_transform(used)
    reduced /= reduced[:, 0].std()  # the mixture's floor of a variance is absolute
    found = []
    for seed in seeds:
        mixture = GaussianMixture(components, covariance_type=covariance, random_state=seed)
        found.append(leep(mixture.fit(reduced).predict_proba(reduced), numbers))
    return float(np.mean(found))
