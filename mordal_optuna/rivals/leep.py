"""LEEP: log expected empirical prediction (Nguyen et al. 2020, ICML).

Symbols:
    P       probabilities of a model's own (source) classes, N documents x Z
    y_i     class of document i
    J       joint distribution, J[y, z] = mean_i 1[y_i = y] P[i, z]
    H(Y)    entropy of the classes

    LEEP = mean_i ln sum_z (J[y_i, z] / sum_y J[y, z]) P[i, z],  from -H(Y) to 0

With many source classes it only measures how peaked P is: where hardly two documents share a
source class, each source class "predicts" the class of its own document. So give all candidates
one fixed set of source classes of equal size, such as their probabilities of the same few
answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mordal_optuna.errors import RivalError
from mordal_optuna.rivals.checks import classes, matrix

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

# Rows of P that miss a sum of 1 by more are no probabilities; single precision misses by less.
_SLACK = 1e-3


def leep(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """LEEP.

    Args:
        probabilities: P, N x Z, the same Z source classes for all candidates that are compared.
        labels: a class a document; documents of class `checks.NONE` are left out.

    Returns:
        Nats a document, -H(Y)..0, higher is better.

    Raises:
        RivalError: if the arrays do not fit, rows are no probabilities, or there are fewer than
            two classes.
    """
    known = matrix("source probabilities", probabilities)
    numbers, kept = classes(labels, rows=len(known))
    sums = known.sum(axis=1)
    if known.min() < 0 or np.abs(sums - 1).max() > _SLACK:
        raise RivalError(
            f"source probabilities range from {known.min():.3g} and add up to "
            f"{sums.min():.3g} to {sums.max():.3g}; each row must be at least 0 and add up to 1"
        )
    seen = (known / sums[:, None])[kept]
    one_hot = np.eye(int(numbers.max()) + 1)[numbers]
    joint = one_hot.T @ seen  # C x Z, N times J
    marginal = joint.sum(axis=0)
    conditional = np.divide(joint, marginal, out=np.zeros_like(joint), where=marginal > 0)
    expected = np.einsum("nz,nz->n", conditional[numbers], seen)
    return float(np.mean(np.log(expected)))
