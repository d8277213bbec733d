"""Per-document values, and standard errors of scores and of their differences.

Symbols:
    n     number of documents
    x_i   value of document i, 0..1
    G     number of clusters of documents that are not independent, such as questions on an image
    S_g   sum of x_i - mean over cluster g

The standard error of a mean is sqrt(G / (G - 1) sum_g S_g^2) / n (Liang and Zeger 1986, with the
correction for few clusters); with one document per cluster it is the sample standard error.
"""

from __future__ import annotations

import hashlib
import random
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np

from mordal_optuna.errors import EvaluationError
from mordal_optuna.evaluation.faults import task_faults
from mordal_optuna.evaluation.guards import quiet, random_states_kept

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mordal_optuna.evaluation.task import Task

# Number of documents read at once.
_BATCH = 64


def document_values(samples: Sequence[Mapping[str, Any]], task: Task) -> tuple[float, ...]:
    """Value of each document, 0..1.

    Args:
        samples: lmms-eval's sample of each document, in the task's order.
        task: the scored task.

    Raises:
        EvaluationError: if the value of a document is no number.
    """
    return tuple(_value(sample, task) for sample in samples)


def reference_values(task: Task, references: Sequence[str]) -> tuple[float, ...]:
    """What a task gives its own reference answers, 0..1; 1 where it can read them.

    Args:
        task: the task.
        references: reference answers of the first documents, in their order.

    Raises:
        TaskError: if the task's code fails.
        EvaluationError: if the value of a document is no number.
    """
    samples = []
    for number, reference in enumerate(references):
        with task_faults(task.name, "`process_results` fails"), random_states_kept(), quiet():
            values = task.live.process_results(task.rows[number], [reference])
        samples.append({**values, "doc_id": number})
    return document_values(samples, task)


def column_clusters(name: str, documents: Any, key: str | None) -> tuple[int, ...] | None:
    """Cluster number of each document, by the values of a column.

    Args:
        name: name of the task, for error messages.
        documents: dataset of the task's documents.
        key: name of the column; None if all documents are independent.

    Returns:
        A number per document, equal within a cluster; None if all documents are independent.

    Raises:
        EvaluationError: if the column does not exist.
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


def picture_keys(documents: Any) -> list[tuple[Any, ...]] | None:
    """What distinguishes the pictures of documents, without decoding them.

    Args:
        documents: a split of a dataset.

    Returns:
        One key per document, equal for the same pictures; None for documents without image
        columns, or that are no dataset.
    """
    from datasets import Dataset, Image

    if not isinstance(documents, Dataset):
        return None
    columns = [name for name, kind in documents.features.items() if isinstance(kind, Image)]
    if not columns:
        return None
    encoded = documents.select_columns(columns).with_format("arrow")
    rows = (row for table in encoded.iter(batch_size=_BATCH) for row in table.to_pylist())
    return [tuple(_image_key(row[c], n) for c in columns) for n, row in enumerate(rows)]


def standard_error(values: Sequence[float], clusters: Sequence[int] | None) -> float:
    """Standard error of the mean of values.

    Args:
        values: n values.
        clusters: cluster number of each value; None if all are independent.

    Returns:
        The standard error; infinite for fewer than two clusters.
    """
    x = np.asarray(values, dtype=float)
    # Renumber without gaps: a subset may lack some clusters.
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
        first: per-document values of one candidate.
        second: per-document values of the other candidate, in the same order.
        clusters: cluster number of each document; None if all are independent.

    Raises:
        EvaluationError: if the numbers of documents differ.
    """
    if len(first) != len(second):
        raise EvaluationError(
            "?", f"{len(first)} and {len(second)} documents cannot be compared in pairs"
        )
    differences = np.asarray(first, dtype=float) - np.asarray(second, dtype=float)
    return float(differences.mean()), standard_error(differences.tolist(), clusters)


def guessed_share(samples: Sequence[Mapping[str, Any]], task: Task) -> float | None:
    """Share of documents whose answer the task could not parse and drew at random.

    Args:
        samples: lmms-eval's sample of each document, in the task's order.
        task: the scored task.

    Returns:
        The share, 0..1; None for a task that never guesses.
    """
    if not task.spec.guesses:
        return None
    guessed = 0
    with quiet(), _recorded_draws() as drawn:
        for document, sample in zip(task.rows, samples, strict=True):
            drawn.clear()
            task.live.process_results(document, [sample["resps"][0][0]])
            guessed += bool(drawn)
    return guessed / len(samples)


@contextmanager
def _recorded_draws() -> Iterator[list[Any]]:
    """Record the calls of `random.choice` by which tasks draw answers; each gets option 0."""
    drawn: list[Any] = []

    def choose_first(options: Any) -> Any:
        drawn.append(options[0])
        return options[0]

    with patch.object(random, "choice", choose_first):
        yield drawn


def _value(sample: Mapping[str, Any], task: Task) -> float:
    raw = sample[task.spec.document_key]
    if isinstance(raw, dict):  # input of the task's aggregation, as in MMMU
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
        return [_image_key(row, n) for n, row in enumerate(encoded[key])]
    return list(documents.select_columns([key])[key])


def _image_key(row: Any, number: int) -> Any:
    """Digest of an image's bytes, or its path; the document's number if it has no image."""
    if row is None:
        return number
    return hashlib.sha256(row["bytes"]).hexdigest() if row["bytes"] else row["path"]
