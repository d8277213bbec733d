"""Paired comparison of two scores, document by document, from compactly stored document values.

Compared pairs answer the same documents, and a document that is hard for one pair is mostly hard
for the other. So the difference of two scores has a smaller standard error than either score.

Symbols:
    G     number of document clusters; documents of different clusters are independent
    n_g   documents in cluster g
    S_g   sum of a pair's values over cluster g
    d_g   difference of two pairs' S_g
    N     number of documents
    m     difference of the two scores, sum d_g / N
    w_t   weight of task t, in a study with several tasks
"""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from mordal_optuna.search.curves import Measurement

# Characters of the documents' digest that are stored.
_DIGEST = 16


@dataclass(frozen=True)
class Answers:
    """Values of a score's documents, summed by cluster.

    Attributes:
        documents: digest of the documents and of how they are asked and scored.
        sums: S_g, one entry per cluster.
        sizes: n_g, one entry per cluster.
    """

    documents: str
    sums: NDArray[np.float32]
    sizes: NDArray[np.uint32]

    @staticmethod
    def of(values: Sequence[float], clusters: Sequence[int] | None, documents: str) -> Answers:
        """Sum the values of all documents by cluster.

        Args:
            values: one value per document, 0 to 1.
            clusters: cluster number of each document; None if all documents are independent.
            documents: digest; equal digests mean the same documents in the same order.
        """
        numbers = (
            np.arange(len(values))
            if clusters is None
            else np.unique(np.asarray(clusters), return_inverse=True)[1]
        )
        return Answers(
            documents[:_DIGEST],
            np.bincount(numbers, weights=np.asarray(values)).astype(np.float32),
            np.bincount(numbers).astype(np.uint32),
        )

    def packed(self) -> str:
        """The values as text: the digest, a colon, and both arrays compressed in base 64."""
        content = zlib.compress(self.sums.tobytes() + self.sizes.tobytes(), level=9)
        return f"{self.documents}:{base64.b64encode(content).decode()}"

    @staticmethod
    def unpacked(text: str) -> Answers:
        """The inverse of `packed`."""
        documents, _, content = text.partition(":")
        raw = zlib.decompress(base64.b64decode(content))
        half = len(raw) // 2
        return Answers(
            documents,
            np.frombuffer(raw[:half], dtype=np.float32),
            np.frombuffer(raw[half:], dtype=np.uint32),
        )


@dataclass(frozen=True)
class Contrast:
    """Difference of two pairs' scores at the highest rung that both were scored at.

    Attributes:
        samples: the rung, in alignment samples.
        difference: score of the first pair minus score of the second, -1 to 1.
        stderr: standard error of the difference due to the sampling of documents.
        paired: whether both pairs answered the same documents and were compared one by one.
    """

    samples: int
    difference: float
    stderr: float
    paired: bool


def contrast(
    one: Sequence[Measurement],
    other: Sequence[Measurement],
    weights: Mapping[str, float] | None = None,
) -> Contrast | None:
    """The first pair's score minus the second's; None if no rung has scores of both.

    With paired documents the standard error is that of a mean over clusters,
    sqrt(G / (G - 1) sum (d_g - m n_g)^2) / N. If the values of the documents are not stored, or
    the documents differ, the standard errors of the two scores are added in squares. For weighted
    means over tasks, whose documents are independent, it is sqrt(sum w_t^2 e_t^2) / sum w_t, with
    e_t the standard error of the difference on task t.

    Args:
        one: scores of the first pair, by ascending samples.
        other: scores of the second pair, by ascending samples.
        weights: w_t by the task's name; None or empty if there is one task.
    """
    shared = {m.samples for m in one} & {m.samples for m in other}
    if not shared:
        return None
    at = max(shared)
    first, second = (next(m for m in scores if m.samples == at) for scores in (one, other))
    paired = _mean_error(first, second, weights) if weights else _paired_error(first, second)
    error = paired if paired is not None else float(np.hypot(first.noise, second.noise))
    return Contrast(at, first.score - second.score, error, paired is not None)


def _mean_error(
    first: Measurement, second: Measurement, weights: Mapping[str, float]
) -> float | None:
    """Standard error of the difference of two weighted means; None unless all tasks are paired."""
    if not weights.keys() == first.by_task.keys() == second.by_task.keys():
        return None
    errors = {name: _paired_error(first.by_task[name], second.by_task[name]) for name in weights}
    known = [(weights[name] * error) ** 2 for name, error in errors.items() if error is not None]
    return sum(known) ** 0.5 / sum(weights.values()) if len(known) == len(weights) else None


def _paired_error(first: Measurement, second: Measurement) -> float | None:
    if first.answers is None or second.answers is None:
        return None
    a, b = Answers.unpacked(first.answers), Answers.unpacked(second.answers)
    if a.documents != b.documents or len(a.sums) != len(b.sums) or len(a.sums) < 2:
        return None
    differences = a.sums.astype(float) - b.sums.astype(float)
    sizes, count = a.sizes.astype(float), len(a.sizes)
    mean = differences.sum() / sizes.sum()
    squares = float(((differences - mean * sizes) ** 2).sum())
    # If two pairs agree on every document, the noise is still at least half a document.
    least = 0.5 / float(sizes.sum())
    return max(float(np.sqrt(count / (count - 1) * squares)) / float(sizes.sum()), least)
