"""Answers as inputs of rivals: class labels, and embeddings of the text.

Symbols:
    N   documents, each with one answer
    m   minimum number of documents with an answer that forms a class
    K   embedders
    L   width of an embedding

The EMMS paper embeds answers with foundation models (CLIP, BERT, GPT-2). `text_embeddings` needs
no model: it counts character n-grams and words, which carry no meaning. Embeddings by the pool's
LLMs, or by other models, can be passed to `common_width` instead.
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
# Components below this share of an embedding's norm are rounding error.
_ROUNDING = 1e-8
_TINY = np.finfo(float).tiny


def normalised(answer: str) -> str:
    """An answer in lower case with single spaces; equal answers have equal normalised forms."""
    return " ".join(answer.casefold().split())


def answer_classes(answers: Sequence[str], *, least: int = 5) -> tuple[Ints, tuple[str, ...]]:
    """Frequent answers as classes.

    Answers of fewer than m documents belong to no class (`checks.NONE`): a class of a few
    documents is matched by chance, and a single class of all rare answers would be arbitrary.
    Rivals that need classes leave those documents out; the others use all documents. Where
    answers rarely recur (names, numbers), too few classes remain: use `clustered_classes`, and
    check how many documents remain.

    Args:
        answers: answer of each document.
        least: m, at least 1.

    Returns:
        Class number of each document, and the answers of the classes, the most frequent first.

    Raises:
        RivalError: if there are no answers, or m is below 1.
    """
    if not answers or least < 1:
        raise RivalError(
            f"got {len(answers)} answers and a minimum of {least} documents per class; both must "
            "be at least 1"
        )
    texts = [normalised(answer) for answer in answers]
    counted = sorted(Counter(texts).items(), key=lambda item: (-item[1], item[0]))
    names = tuple(name for name, count in counted if count >= least)
    number = {name: n for n, name in enumerate(names)}
    return np.array([number.get(text, NONE) for text in texts], dtype=np.int64), names


def clustered_classes(embeddings: ArrayLike, *, count: int, seed: int = 0) -> Ints:
    """Groups of similar answers as classes, for tasks whose answers rarely recur.

    Args:
        embeddings: embeddings of the answers, K x N x L.
        count: number of classes, from 2 to the number of different answers.
        seed: random seed of k-means.

    Returns:
        Class number of each document; independent of any candidate, so the same for all.

    Raises:
        RivalError: if the shape is wrong, or `count` is out of range.
    """
    shape = np.shape(embeddings)
    checked = stack("embeddings", embeddings, rows=shape[1] if len(shape) == 3 else 0)
    flat = np.concatenate(list(checked), axis=1)
    # embeddings of equal answers may differ by rounding
    different = len(np.unique(np.round(flat / max(np.abs(flat).max(), _TINY), 6), axis=0))
    if not 2 <= count <= different:
        raise RivalError(
            f"count: got {count} classes of {different} different answers; allowed are 2 to "
            f"{different}"
        )
    numbers = KMeans(count, n_init=10, random_state=seed).fit_predict(flat)
    return np.asarray(numbers, dtype=np.int64)


def text_embeddings(texts: Sequence[str], *, width: int = 32) -> Floats:
    """K = 3 embeddings of texts by their spelling; no model is needed.

    Hashed counts of n-grams, rows of norm 1, reduced by a singular value decomposition.

    Args:
        texts: N answers or captions.
        width: largest L, at least 1.

    Returns:
        K x N x L; see `common_width`.

    Raises:
        RivalError: if fewer than two texts differ, no text has a letter or digit, or the width is
            below 1.
    """
    if not any(any(map(str.isalnum, text)) for text in texts):
        raise RivalError(
            f"got {len(texts)} texts, none with a letter or digit; at least one is needed"
        )
    spelled = [normalised(text) for text in texts]
    return common_width([v.transform(spelled).toarray() for v in _vectorizers()], width=width)


def _vectorizers() -> tuple[HashingVectorizer, ...]:
    """Character n-grams of 1 to 2 and of 3 to 5; words and pairs of words.

    A single character counts as a word: answers may be an option's letter or a digit.
    """
    return (
        HashingVectorizer(analyzer="char_wb", ngram_range=(1, 2), n_features=_HASHES),
        HashingVectorizer(analyzer="char_wb", ngram_range=(3, 5), n_features=_HASHES),
        HashingVectorizer(token_pattern=r"(?u)\w+", ngram_range=(1, 2), n_features=_HASHES),
    )


def common_width(embeddings: Sequence[ArrayLike], *, width: int) -> Floats:
    """Reduce embeddings of different widths to their first L principal components.

    Args:
        embeddings: K arrays of the same N documents, each of any width, such as last hidden
            states of several LLMs on the answers.
        width: largest L, at least 1.

    Returns:
        K x N x L. L is the smallest rank of the embeddings if that is below `width`: padding
        with zeros would make an embedding easier to explain.

    Raises:
        RivalError: if shapes do not match, an embedding is the same for all documents, or the
            width is below 1.
    """
    if not embeddings or width < 1:
        raise RivalError(
            f"got {len(embeddings)} embeddings and width {width}; both must be at least 1"
        )
    rows = len(matrix("embedding", embeddings[0]))
    parts = [_components(matrix("embedding", e, rows=rows)) for e in embeddings]
    shared = min(width, *(part.shape[1] for part in parts))
    return np.stack([part[:, :shared] for part in parts])


def _components(embedding: Floats) -> Floats:
    """All principal components of an embedding, without rounding error."""
    left, singular, _ = np.linalg.svd(embedding - embedding.mean(axis=0), full_matrices=False)
    kept = int(np.sum(singular > _ROUNDING * np.linalg.norm(embedding)))
    if not kept:
        raise RivalError("an embedding is the same for all documents; some must differ")
    return left[:, :kept] * singular[:kept]


def varying_outputs(embeddings: ArrayLike, *, rows: int) -> Floats:
    """Varying columns of all embeddings, side by side and standardised, N x C.

    Args:
        embeddings: embeddings of the answers, K x N x L.
        rows: N.

    Raises:
        RivalError: if the shape is wrong, or no column varies.
    """
    checked = stack("embeddings", embeddings, rows=rows)
    flat = standardised(np.concatenate(list(checked), axis=1))
    varying = flat.any(axis=0)
    if not varying.any():
        raise RivalError("the embeddings are the same for all documents; some must differ")
    return flat[:, varying]
