"""NLEEP: LEEP with clusters of the features as source classes (Li et al. 2021, CVPR).

Symbols:
    X, N, D   features, N documents x D wide
    P         posteriors of the components of a Gaussian mixture, N x Z

A Gaussian mixture is fitted to the principal components that keep 80 % of the variance; `leep` is
computed with P.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture

from mordal_optuna.errors import RivalError
from mordal_optuna.rivals.checks import classes, matrix, one_of
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
    """NLEEP, averaged over random seeds of the mixture.

    Args:
        features: X, N x D.
        labels: class number of each document; documents labelled `checks.NONE` are left out.
        seeds: random seeds, one mixture each; at least one.
        variance: share of the variance that the principal components keep, above 0 and below 1.
        ratio: mixture components per class, at least 1.
        documents_each: minimum number of documents per component, at least 1. It caps the number
            of components: with few documents per component any posterior fits by chance.
        covariance: covariance type of the components. The paper does not state it; principal
            components are uncorrelated, and full matrices have more parameters than a few hundred
            documents can determine.

    Returns:
        Nats per document, at most 0; higher is better.

    Raises:
        RivalError: if shapes do not match, an option is out of range, there are fewer than two
            classes or components, or all features are equal.
    """
    if not 0 < variance < 1 or ratio < 1 or documents_each < 1:
        raise RivalError(
            f"got variance {variance}, ratio {ratio} and documents_each {documents_each}; "
            "variance must lie between 0 and 1, the others must be at least 1"
        )
    one_of("covariance", covariance, get_args(Covariance))
    checked = matrix("features", features)
    numbers, kept = classes(labels, rows=len(checked))
    used = checked[kept]
    components = min(ratio * (int(numbers.max()) + 1), len(used) // documents_each)
    if components < 2 or not seeds:
        raise RivalError(
            f"{len(used)} documents with a class give {components} component(s) of at least "
            f"{documents_each} documents, {len(seeds)} seed(s); at least 2 and 1 are needed"
        )
    if not np.ptp(used, axis=0).any():
        raise RivalError("all documents have the same features; a mixture needs some that differ")
    reduced = PCA(variance, svd_solver="full").fit_transform(used)
    reduced /= reduced[:, 0].std()  # scikit-learn adds an absolute constant to variances
    scores = []
    for seed in seeds:
        mixture = GaussianMixture(components, covariance_type=covariance, random_state=seed)
        scores.append(leep(mixture.fit(reduced).predict_proba(reduced), numbers))
    return float(np.mean(scores))
