"""What every rival asks of its arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mordal_optuna.errors import RivalError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

# Class of a document that belongs to none: rivals that need classes leave it out.
NONE = -1


def matrix(name: str, values: ArrayLike, *, rows: int | None = None) -> Floats:
    """An N x D array of finite numbers.

    Args:
        name: what it is, for the error.
        values: the array.
        rows: N, where it is known.

    Raises:
        RivalError: if it has another shape, is empty, or holds a value that is no number.
    """
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 2 or not found.size or (rows is not None and len(found) != rows):
        raise RivalError(
            f"{name} has the shape {found.shape}; {'N' if rows is None else rows} rows of at "
            "least one value each are needed"
        )
    if not np.isfinite(found).all():
        raise RivalError(f"{name} holds a value that is no number; all must be finite")
    return found


def stack(name: str, values: ArrayLike, *, rows: int) -> Floats:
    """K embeddings of N documents, L wide each, as a K x N x L array.

    Raises:
        RivalError: if it has another shape, is empty, or holds a value that is no number.
    """
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 3 or not found.size or found.shape[1] != rows:
        raise RivalError(
            f"{name} have the shape {found.shape}; K embeddings of {rows} documents, "
            "L wide each, are needed (K x N x L)"
        )
    if not np.isfinite(found).all():
        raise RivalError(f"{name} hold a value that is no number; all must be finite")
    return found


def classes(labels: ArrayLike, *, rows: int) -> tuple[Ints, NDArray[np.bool_]]:
    """Class numbers 0 to C - 1 of the documents that have one, and which these are.

    Args:
        labels: one whole number a document; `NONE` for a document that belongs to no class.
        rows: N.

    Returns:
        The class of each document that has one (at most N), renumbered without gaps; and N truth
        values, true where a document has one.

    Raises:
        RivalError: for another shape, other numbers, or fewer than two classes.
    """
    found = np.asarray(labels)
    if found.shape != (rows,) or not np.issubdtype(found.dtype, np.integer):
        raise RivalError(
            f"labels have the shape {found.shape} and the type {found.dtype}; {rows} whole "
            "numbers are needed"
        )
    if found.min() < NONE:
        raise RivalError(f"label {found.min()} was given; classes count from 0, none is {NONE}")
    kept = found != NONE
    names, numbers = np.unique(found[kept], return_inverse=True)
    if len(names) < 2:
        raise RivalError(
            f"{len(names)} class(es) among {rows} documents; at least 2 are needed: lower the "
            "number of times an answer must be seen, or use clusters of answers as classes"
        )
    return numbers.astype(np.int64), kept


def standardised(values: Floats) -> Floats:
    """Columns with mean 0 and variance 1; columns that do not vary become 0."""
    centred = values - values.mean(axis=0)
    spread = centred.std(axis=0)
    # below this a column varies by rounding alone, which must not be blown up to variance 1
    least = 1e-10 * max(float(np.abs(values).max()), np.finfo(float).tiny)
    return np.divide(centred, spread, out=np.zeros_like(centred), where=spread > least)
