"""What a score's documents say, packed small, so that pairs are compared document by document.

Compared pairs answer the same documents, and what is hard for one is mostly hard for the other. So
the difference of two scores is known better than either of them.

Symbols:
    G     clusters of documents that are independent of one another
    n_g   documents of cluster g
    S_g   sum of a pair's values over cluster g
    d_g   difference of two pairs' S_g
    N     all documents
    m     difference of the two scores, sum d_g / N
"""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mordal_optuna.search.curves import Measurement

# Characters of the documents' digest that are kept.
_DIGEST = 16


@dataclass(frozen=True)
class Answers:
    """Values of a score's documents, by cluster.

    Attributes:
        documents: digest of which documents they are, and of how they are asked and scored.
        sums: S_g, one a cluster.
        sizes: n_g, one a cluster.
    """

    documents: str
    sums: NDArray[np.float32]
    sizes: NDArray[np.uint32]

    @staticmethod
    def of(values: Sequence[float], clusters: Sequence[int] | None, documents: str) -> Answers:
        """From the values of all documents.

        Args:
            values: one a document, 0..1.
            clusters: number of each document's cluster; None where all are independent.
            documents: digest; equal ones have the same documents in the same order.
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
        """The same as text: the digest, then both arrays compressed, in base 64."""
        content = zlib.compress(self.sums.tobytes() + self.sizes.tobytes(), level=9)
        return f"{self.documents}:{base64.b64encode(content).decode()}"

    @staticmethod
    def unpacked(text: str) -> Answers:
        """Inverse of `packed`."""
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
    """One pair's score against another's, at the highest rung that both were scored at.

    Attributes:
        samples: that rung.
        difference: of the scores, in the order of the question.
        stderr: standard error of the difference by its documents.
        paired: whether both answered the same documents, and were compared one by one.
    """

    samples: int
    difference: float
    stderr: float
    paired: bool


def contrast(one: Sequence[Measurement], other: Sequence[Measurement]) -> Contrast | None:
    """The first pair's score less the second's; None where no rung has both.

    The standard error of paired documents is sqrt(G / (G - 1) sum (d_g - m n_g)^2) / N, that of a
    mean over clusters; where the documents' values are not known or are other documents, the two
    scores' standard errors are added in squares.

    Args:
        one: scores by ascending samples.
        other: the same.
    """
    shared = {m.samples for m in one} & {m.samples for m in other}
    if not shared:
        return None
    at = max(shared)
    first, second = (next(m for m in own if m.samples == at) for own in (one, other))
    paired = _paired_error(first, second)
    error = paired if paired is not None else float(np.hypot(first.noise, second.noise))
    return Contrast(at, first.score - second.score, error, paired is not None)


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
    # Where two pairs agree on every document, the noise is still that of half a document.
    least = 0.5 / float(sizes.sum())
    return max(float(np.sqrt(count / (count - 1) * squares)) / float(sizes.sum()), least)
