"""Checks of the arrays and options that are given to rivals, and algebra that they share."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mordal_optuna.errors import RivalError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

# Label of a document without a class: rivals that need classes leave the document out.
NONE = -1


def matrix(name: str, values: ArrayLike, *, rows: int | None = None) -> Floats:
    """An N x D array of finite numbers.

    Args:
        name: name of the array in error messages.
        values: the array.
        rows: required N; None for any.

    Raises:
        RivalError: if the shape is wrong, the array is empty, or a value is not finite.
    """
    array = np.asarray(values, dtype=np.float64)
    fits = array.ndim == 2 and rows in (None, len(array))
    needed = f"{'N' if rows is None else rows} rows of at least one value each are needed"
    return _finite(name, array, fits=fits, needed=needed)


def stack(name: str, values: ArrayLike, *, rows: int) -> Floats:
    """K embeddings of N documents, each L wide, as a K x N x L array.

    Args:
        name: name of the array in error messages.
        values: the array.
        rows: required N.

    Raises:
        RivalError: if the shape is wrong, the array is empty, or a value is not finite.
    """
    array = np.asarray(values, dtype=np.float64)
    fits = array.ndim == 3 and array.shape[1] == rows
    needed = f"K embeddings of {rows} documents, each L wide, are needed (K x N x L)"
    return _finite(name, array, fits=fits, needed=needed)


def _finite(name: str, array: Floats, *, fits: bool, needed: str) -> Floats:
    if not fits or not array.size:
        raise RivalError(f"{name}: got the shape {array.shape}; {needed}")
    if not np.isfinite(array).all():
        raise RivalError(f"{name}: got a value that is no number; all values must be finite")
    return array


def one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    """Refuse an option that is not offered.

    Args:
        name: name of the option.
        value: given value.
        allowed: offered values.

    Raises:
        RivalError: if the value is not offered.
    """
    if value not in allowed:
        raise RivalError(f"{name}: got {value!r}; allowed are {', '.join(allowed)}")


def classes(labels: ArrayLike, *, rows: int) -> tuple[Ints, NDArray[np.bool_]]:
    """Class numbers 0 to C - 1 of the documents that have a class, and which documents do.

    Args:
        labels: one whole number per document; `NONE` for a document without a class.
        rows: N.

    Returns:
        The class of each document that has one (at most N values), renumbered without gaps; and N
        truth values, true where a document has a class.

    Raises:
        RivalError: if the shape or a label is wrong, or there are fewer than two classes.
    """
    given = np.asarray(labels)
    if given.shape != (rows,) or not np.issubdtype(given.dtype, np.integer):
        raise RivalError(
            f"labels: got the shape {given.shape} and the type {given.dtype}; {rows} whole "
            "numbers are needed"
        )
    if given.min() < NONE:
        raise RivalError(
            f"labels: got {given.min()}; classes count from 0, and {NONE} means no class"
        )
    kept = given != NONE
    names, numbers = np.unique(given[kept], return_inverse=True)
    if len(names) < 2:
        raise RivalError(
            f"labels: got {len(names)} class(es) among {rows} documents; at least 2 are needed: "
            "lower the number of times an answer must be seen, or use clusters of answers as "
            "classes"
        )
    return numbers.astype(np.int64), kept


def one_hot(numbers: Ints) -> Floats:
    """Indicator matrix of class numbers, N x C.

    Args:
        numbers: N class numbers from 0 to C - 1, as from `classes`.
    """
    return np.eye(int(numbers.max()) + 1)[numbers]


def standardised(values: Floats) -> Floats:
    """Columns scaled to mean 0 and variance 1; constant columns become 0.

    Args:
        values: N x D.
    """
    centred = values - values.mean(axis=0)
    spread = centred.std(axis=0)
    # a smaller spread is rounding error, which must not be scaled up to variance 1
    least = 1e-10 * max(float(np.abs(values).max()), np.finfo(float).tiny)
    return np.divide(centred, spread, out=np.zeros_like(centred), where=spread > least)


def column_space(features: Floats) -> tuple[Floats, Floats]:
    """Left singular vectors of the column space, N x k, and the k singular values above rounding.

    Args:
        features: N x D.
    """
    left, singular, _ = np.linalg.svd(features, full_matrices=False)
    least = singular[0] * max(features.shape) * np.finfo(float).eps
    rank = int(np.sum(singular > least))
    return left[:, :rank], singular[:rank]
