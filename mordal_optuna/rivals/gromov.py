"""Gromov-Wasserstein: do image features and text features have the same shape?

Li et al. 2026 (arXiv 2605.01325) rank vision encoders without training by the Gromov-Wasserstein
distance between the encoder's image features and the LLM's features of the captions. Only the
abstract and summaries were available. Assumed here: one vector per image and per text of the same
documents, cosine distances within each set, divided by their mean, equal weights, squared loss,
exact (not entropic) couplings.

Symbols:
    N       documents
    C, E    distances between images and between texts, N x N, mean 1 off the diagonal
    T       coupling, N x N, rows and columns adding up to 1 / N
    GW      min_T sum_{i,j,k,l} (C[i,k] - E[j,l])^2 T[i,j] T[k,l]

    distance = sqrt(GW) / 2  (Memoli 2011)

The problem is not convex: the conditional gradient of POT (Vayer et al. 2019) finds a local
minimum. It is started from the uniform coupling and from the pairing of equal documents; the
smaller value is taken.

Distances between wide noise vectors concentrate around their mean, so unrelated features score
higher the wider they are: like in-sample EMMS, the score rewards width where there is no
structure. This follows from the definition and is not corrected.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from scipy.spatial.distance import pdist, squareform

from mordal_optuna.errors import RivalError
from mordal_optuna.rivals.checks import Floats, matrix, one_of

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Metric = Literal["cosine", "euclidean"]

_STEPS = 1_000


def gromov_wasserstein(
    images: ArrayLike,
    texts: ArrayLike,
    *,
    metric: Metric = "cosine",
    documents: int = 256,
    seed: int = 0,
) -> float:
    """Minus the Gromov-Wasserstein distance.

    Args:
        images: N x D, the vision encoder's features of the images.
        texts: N x E, the LLM's features of captions or answers of the same documents.
        metric: distance between two vectors.
        documents: maximum number of documents, at least 3. A random subset is drawn from more,
            the same for all candidates; the cost grows with the cube of this number.
        seed: random seed of the subset.

    Returns:
        The score, at most 0; higher is better, and 0 means equal geometry.

    Raises:
        RivalError: if shapes do not match, an option is not allowed, fewer than 3 documents are
            given, a vector is 0 under `cosine`, or all vectors are equal.
    """
    one_of("metric", metric, get_args(Metric))
    # POT imports every installed array library, torch included: imported only when needed
    from ot.gromov import gromov_wasserstein2

    image_features = matrix("image features", images)
    text_features = matrix("text features", texts, rows=len(image_features))
    if min(len(image_features), documents) < 3:
        raise RivalError(
            f"got {len(image_features)} documents, {documents} at most; at least 3 are needed"
        )
    if len(image_features) > documents:
        drawn = np.random.default_rng(seed).permutation(len(image_features))[:documents]
        image_features, text_features = image_features[drawn], text_features[drawn]
    first = _distances("image features", image_features, metric)
    second = _distances("text features", text_features, metric)
    n = len(first)
    weights = np.full(n, 1 / n)
    minima = [
        gromov_wasserstein2(
            first, second, weights, weights, symmetric=True, G0=start, max_iter=_STEPS
        )
        for start in (np.full((n, n), 1 / n**2), np.eye(n) / n)
    ]
    return -float(np.sqrt(max(min(map(float, minima)), 0.0))) / 2


def _distances(name: str, values: Floats, metric: Metric) -> Floats:
    if metric == "cosine" and not values.any(axis=1).all():
        raise RivalError(f"{name}: got a vector that is 0, for which cosines are undefined")
    condensed = np.clip(pdist(values, metric), 0, None)
    if condensed.mean() <= 1e-12:
        raise RivalError(f"{name}: all documents have the same; some must differ")
    return squareform(condensed / condensed.mean())
