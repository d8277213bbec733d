"""Values of single documents, and what they say about scores and their differences.

Symbols:
    n     documents
    x_i   value of document i, 0..1
    G     clusters of documents that are not independent, such as questions on one image
    S_g   sum of x_i - mean over cluster g

The standard error of a mean is sqrt(G / (G - 1) sum_g S_g^2) / n: the sample one where every
document is a cluster of its own (Liang and Zeger 1986, with the correction for few clusters).
"""

from __future__ import annotations

import hashlib
import random
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np

from mordal_optuna.errors import EvaluationError
from mordal_optuna.evaluation.guards import quiet

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mordal_optuna.evaluation.task import Task


def document_values(samples: Sequence[Mapping[str, Any]], task: Task) -> tuple[float, ...]:
    """Value of each document, 0..1.

    Args:
        samples: lmms-eval's, in the task's order.
        task: says what counts.

    Raises:
        EvaluationError: if a document has no value.
    """
    return tuple(_value(sample, task) for sample in samples)


def column_clusters(name: str, documents: Any, key: str | None) -> tuple[int, ...] | None:
    """Clusters by a column of a task's documents.

    Args:
        name: of the task, for errors.
        documents: a dataset.
        key: the column; None gives None.

    Raises:
        EvaluationError: if there is no such column.
    """
    if key is None:
        return None
    if key not in documents.column_names:
        raise EvaluationError(
            name,
            f"declares the cluster key {key!r}; its documents have "
            f"{', '.join(documents.column_names)}",
        )
    numbers: dict[Any, int] = {}
    return tuple(numbers.setdefault(value, len(numbers)) for value in _column(documents, key))


def standard_error(values: Sequence[float], clusters: Sequence[int] | None) -> float:
    """Standard error of the mean of values.

    Args:
        values: n of them, at least 2.
        clusters: of each value; None where all are independent.
    """
    x = np.asarray(values, dtype=float)
    # Numbered anew: a subset has not every cluster of the whole.
    groups = np.arange(len(x)) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    sums = np.bincount(groups, weights=x - x.mean())
    count = len(sums)
    if count < 2:
        return float("inf")
    return float(np.sqrt(count / (count - 1) * (sums**2).sum()) / len(x))


def paired_difference(
    first: Sequence[float], second: Sequence[float], clusters: Sequence[int] | None
) -> tuple[float, float]:
    """Difference of two candidates' scores on the same documents, and its standard error.

    Args:
        first: values of one candidate.
        second: values of the other, in the same order.
        clusters: of each document; None where all are independent.

    Raises:
        EvaluationError: if they are of different documents.
    """
    if len(first) != len(second):
        raise EvaluationError(
            "?", f"{len(first)} and {len(second)} documents cannot be compared in pairs"
        )
    differences = np.asarray(first, dtype=float) - np.asarray(second, dtype=float)
    return float(differences.mean()), standard_error(differences.tolist(), clusters)


def guessed_share(samples: Sequence[Mapping[str, Any]], task: Task) -> float | None:
    """Share of documents whose answer could not be read, so that the task drew one at random.

    Returns:
        The share; None for a task that never guesses.
    """
    if not task.spec.guesses:
        return None
    documents = task.live.dataset_no_image[task.split]
    guessed = 0
    with quiet(), _draws() as drawn:
        for row, sample in enumerate(samples):
            drawn.clear()
            task.live.process_results(documents[row], [sample["resps"][0][0]])
            guessed += bool(drawn)
    return guessed / len(samples)


@contextmanager
def _draws() -> Iterator[list[Any]]:
    """What is drawn meanwhile; a task's own code calls `random.choice` for an answer."""
    drawn: list[Any] = []

    def noted(options: Any) -> Any:
        drawn.append(options[0])
        return options[0]

    with patch.object(random, "choice", noted):
        yield drawn


def _value(sample: Mapping[str, Any], task: Task) -> float:
    raw = sample[task.spec.document_key]
    if isinstance(raw, dict):  # what the task's own aggregation reads, such as MMMU's
        with quiet():
            raw = task.live.aggregation()[task.spec.document_key]([raw])
    try:
        return float(raw) / task.spec.scale
    except (TypeError, ValueError) as error:
        raise EvaluationError(
            task.name, f"document {sample['doc_id']} has the value {raw!r}, which is no number"
        ) from error


def _column(documents: Any, key: str) -> list[Any]:
    from datasets import Image

    if isinstance(documents.features[key], Image):
        encoded = documents.select_columns([key]).cast_column(key, Image(decode=False))
        return [_picture_key(row, n) for n, row in enumerate(encoded[key])]
    return list(documents.select_columns([key])[key])


def _picture_key(row: Any, number: int) -> Any:
    """An image's bytes, hashed; a document without one is a cluster of its own."""
    if row is None:
        return number
    return hashlib.sha256(row["bytes"]).hexdigest() if row["bytes"] else row["path"]
