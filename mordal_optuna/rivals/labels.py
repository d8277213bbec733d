"""Answers as rivals read them: classes, and embeddings of their text.

Symbols:
    N   documents, each with one answer
    m   how often an answer must be seen to be a class
    K   embedders
    L   width of an embedding

EMMS embeds answers by foundation models (CLIP, BERT, GPT-2). `text_embeddings` needs no model: it
counts pieces of words, and knows nothing of meaning. Where the pool's own LLMs, or any others,
have embedded the answers, give those to `common_width` instead.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
from sklearn.cluster import KMeans
from sklearn.feature_extraction.text import HashingVectorizer

from mordal_optuna.errors import RivalError
from mordal_optuna.rivals.checks import NONE, Floats, Ints, matrix, stack, standardised

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

_HASHES = 2**12
# A component below this share of an embedding's size is rounding.
_ROUNDING = 1e-8
_TINY = np.finfo(float).tiny


def plain(answer: str) -> str:
    """An answer without case and needless space, by which equal answers are known."""
    return " ".join(answer.casefold().split())


def answer_classes(answers: Sequence[str], *, least: int = 5) -> tuple[Ints, tuple[str, ...]]:
    """Frequent answers as classes.

    Rare answers, seen fewer than m times, belong to no class (`checks.NONE`): a class of a few
    documents is matched by chance, and one class of all rare answers would have nothing in common.
    Class-based rivals leave those documents out; the others use all. Tasks whose answers hardly
    ever recur (names, numbers) have too few such classes: use `clustered_classes` there, and look
    at how many documents are left.

    Args:
        answers: one a document.
        least: m, at least 1.

    Returns:
        A class number a document, and the classes' answers, the most frequent first.

    Raises:
        RivalError: for no answers, or an m below 1.
    """
    if not answers or least < 1:
        raise RivalError(
            f"classes of {len(answers)} answers seen at least {least} times were asked for; "
            "both must be at least 1"
        )
    short = [plain(answer) for answer in answers]
    counted = sorted(Counter(short).items(), key=lambda item: (-item[1], item[0]))
    names = tuple(name for name, count in counted if count >= least)
    number = {name: n for n, name in enumerate(names)}
    return np.array([number.get(answer, NONE) for answer in short], dtype=np.int64), names


def clustered_classes(embeddings: ArrayLike, *, count: int, seed: int = 0) -> Ints:
    """Groups of similar answers as classes, where answers hardly ever recur.

    Args:
        embeddings: of the answers, K x N x L.
        count: classes, at least 2 and at most as many as there are different answers.
        seed: of the clustering (k-means).

    Returns:
        A class number a document; fixed before any candidate is looked at, so the same for all.

    Raises:
        RivalError: if the array does not fit, or `count` cannot be had.
    """
    shape = np.shape(embeddings)
    known = stack("embeddings", embeddings, rows=shape[1] if len(shape) == 3 else 0)
    flat = np.concatenate(list(known), axis=1)
    # embeddings of equal answers differ by rounding
    different = len(np.unique(np.round(flat / max(np.abs(flat).max(), _TINY), 6), axis=0))
    if not 2 <= count <= different:
        raise RivalError(
            f"{count} classes of {different} different answers were asked for; allowed are 2 to "
            f"{different}"
        )
    found = KMeans(count, n_init=10, random_state=seed).fit_predict(flat)
    return np.asarray(found, dtype=np.int64)


def text_embeddings(texts: Sequence[str], *, width: int = 32) -> Floats:
    """K = 3 embeddings of texts by what they are spelled with; no model is needed.

    Hashed counts of pieces of words, rows of length 1, reduced by a singular value decomposition.

    Args:
        texts: N answers or captions.
        width: L at most.

    Returns:
        K x N x L; see `common_width`.

    Raises:
        RivalError: for fewer than two different texts, none with a letter or digit, or a width
            below 1.
    """
    if not any(any(map(str.isalnum, text)) for text in texts):
        raise RivalError(
            f"{len(texts)} texts were given, none with a letter or digit; some are needed"
        )
    short = [plain(text) for text in texts]
    return common_width([v.transform(short).toarray() for v in _vectorizers()], width=width)


def _vectorizers() -> tuple[HashingVectorizer, ...]:
    """Letters and pairs; longer pieces of words; words and pairs of words.

    A single character is a word, too: a choice, a number.
    """
    return (
        HashingVectorizer(analyzer="char_wb", ngram_range=(1, 2), n_features=_HASHES),
        HashingVectorizer(analyzer="char_wb", ngram_range=(3, 5), n_features=_HASHES),
        HashingVectorizer(token_pattern=r"(?u)\w+", ngram_range=(1, 2), n_features=_HASHES),
    )


def common_width(embeddings: Sequence[ArrayLike], *, width: int) -> Floats:
    """Embeddings of different widths on their first principal components.

    Args:
        embeddings: K arrays of the same N documents, as wide as they are, such as the answers in
            the last layer of several LLMs.
        width: L at most.

    Returns:
        K x N x L, with L the smallest number of components that any of them has, if that is
        below `width`: an embedding filled up with zeros would be the easiest to explain.

    Raises:
        RivalError: if the arrays do not fit, one is the same for all documents, or for a width
            below 1.
    """
    if not embeddings or width < 1:
        raise RivalError(
            f"{len(embeddings)} embeddings were given for a width of {width}; both must be at "
            "least 1"
        )
    rows = len(matrix("embedding", embeddings[0]))
    parts = [_components(matrix("embedding", e, rows=rows)) for e in embeddings]
    shared = min(width, *(part.shape[1] for part in parts))
    return np.stack([part[:, :shared] for part in parts])


def _components(embedding: Floats) -> Floats:
    """All its principal components; what rounding left over is none."""
    left, singular, _ = np.linalg.svd(embedding - embedding.mean(axis=0), full_matrices=False)
    kept = int(np.sum(singular > _ROUNDING * np.linalg.norm(embedding)))
    if not kept:
        raise RivalError("an embedding is the same for all documents; some must differ")
    return left[:, :kept] * singular[:kept]


def varying_outputs(embeddings: ArrayLike, *, rows: int) -> Floats:
    """All columns of all embeddings that vary, side by side, standardised: N x C.

    Raises:
        RivalError: if the array does not fit, or no column varies.
    """
    known = stack("embeddings", embeddings, rows=rows)
    flat = standardised(np.concatenate(list(known), axis=1))
    varying = flat.any(axis=0)
    if not varying.any():
        raise RivalError("the embeddings are the same for all documents; some must differ")
    return flat[:, varying]
