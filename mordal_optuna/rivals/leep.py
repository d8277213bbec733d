"""LEEP: log expected empirical prediction (Nguyen et al. 2020, ICML).

Symbols:
    P       probabilities of a model's source classes, N documents x Z
    y_i     class of document i
    J       joint distribution, J[y, z] = mean_i 1[y_i = y] P[i, z]
    H(Y)    entropy of the classes

    LEEP = mean_i ln sum_z (J[y_i, z] / sum_y J[y, z]) P[i, z],  from -H(Y) to 0

With many source classes LEEP only measures how peaked P is: where few documents share a source
class, each source class "predicts" the class of its only document. Candidates should therefore
share one small, fixed set of source classes, such as the probabilities of the same few answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mordal_optuna.errors import RivalError
from mordal_optuna.rivals.checks import classes, matrix, one_hot

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

# Largest deviation of a row sum of P from 1; single precision deviates by less.
_SLACK = 1e-3


def leep(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """LEEP of one candidate.

    Args:
        probabilities: P, N x Z; the same Z source classes for all compared candidates.
        labels: class number of each document; documents labelled `checks.NONE` are left out.

    Returns:
        Nats per document, from -H(Y) to 0; higher is better.

    Raises:
        RivalError: if shapes do not match, a row of P is no probability distribution, or there
            are fewer than two classes.
    """
    source = matrix("source probabilities", probabilities)
    numbers, kept = classes(labels, rows=len(source))
    sums = source.sum(axis=1)
    if source.min() < 0 or np.abs(sums - 1).max() > _SLACK:
        raise RivalError(
            f"source probabilities range from {source.min():.3g} and add up to "
            f"{sums.min():.3g} to {sums.max():.3g}; each row must be at least 0 and add up to 1"
        )
    normalised = (source / sums[:, None])[kept]
    joint = one_hot(numbers).T @ normalised  # C x Z, N times J
    marginal = joint.sum(axis=0)
    conditional = np.divide(joint, marginal, out=np.zeros_like(joint), where=marginal > 0)
    expected = np.einsum("nz,nz->n", conditional[numbers], normalised)
    return float(np.mean(np.log(expected)))
