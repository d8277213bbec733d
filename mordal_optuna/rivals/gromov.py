"""Gromov-Wasserstein: do image features and text features have the same shape?

Li et al. 2026 (arXiv 2605.01325) rank vision encoders, before anything is trained, by the
Gromov-Wasserstein distance between images as the encoder sees them and their captions as the LLM
sees them. Only its abstract and summaries were at hand; assumed here are: one vector an image and
one a text (of the same documents), cosine distances inside each, divided by their mean, equal
weights, squared loss, exact (not entropic) couplings.

Symbols:
    N       documents
    C, E    distances between images and between texts, N x N, mean 1 off the diagonal
    T       coupling, N x N, rows and columns adding up to 1 / N
    GW      min_T sum_{i,j,k,l} (C[i,k] - E[j,l])^2 T[i,j] T[k,l]

    distance = sqrt(GW) / 2  (Memoli 2011)

The problem is not convex: the conditional gradient of POT (Vayer et al. 2019) finds a local
minimum. It starts once from the uninformed coupling and once from the documents' own pairs, and
the smaller value counts.

Distances of wide noise concentrate around their mean, so unrelated features look the more alike
the wider they are: like the in-sample residuals of EMMS, the score rewards width where there is
no structure. It is left as it is defined.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.spatial.distance import pdist, squareform

from mordal_optuna.errors import RivalError
from mordal_optuna.rivals.checks import Floats, matrix

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
        images: N x D, as the vision encoder sees them.
        texts: N x E, captions or answers of the same documents, as the LLM sees them.
        metric: how far two vectors are apart.
        documents: at most so many, drawn at random, the same for all candidates; the cost grows
            with their cube.
        seed: of that draw.

    Returns:
        The score, at most 0, higher is better; 0 for the same shape.

    Raises:
        RivalError: if the arrays do not fit, fewer than 3 documents are given, a vector is 0
            under `cosine`, or all are equal.
    """
    # POT imports every array library that is installed, torch among them: not before it is needed
    from ot.gromov import gromov_wasserstein2

    seen = matrix("image features", images)
    read = matrix("text features", texts, rows=len(seen))
    if min(len(seen), documents) < 3:
        raise RivalError(
            f"{len(seen)} documents, {documents} at most, were given; a shape needs at least 3"
        )
    if len(seen) > documents:
        drawn = np.random.default_rng(seed).permutation(len(seen))[:documents]
        seen, read = seen[drawn], read[drawn]
    first = _distances("image features", seen, metric)
    second = _distances("text features", read, metric)
    n = len(first)
    weights = np.full(n, 1 / n)
    found = [
        gromov_wasserstein2(
            first, second, weights, weights, symmetric=True, G0=start, max_iter=_STEPS
        )
        for start in (np.full((n, n), 1 / n**2), np.eye(n) / n)
    ]
    return -float(np.sqrt(max(min(map(float, found)), 0.0))) / 2


def _distances(name: str, values: Floats, metric: Metric) -> Floats:
    if metric == "cosine" and not values.any(axis=1).all():
        raise RivalError(f"{name} hold a vector that is 0, which has no direction for cosines")
    condensed = np.clip(pdist(values, metric), 0, None)
    if condensed.mean() <= 1e-12:
        raise RivalError(f"{name} are the same for all documents; they have no shape")
    return squareform(condensed / condensed.mean())
