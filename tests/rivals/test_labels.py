"""Answers as classes and as embeddings: rare, equal and similar answers."""

from __future__ import annotations

import numpy as np
import pytest

from mordal_optuna.errors import RivalError
from mordal_optuna.rivals.checks import NONE
from mordal_optuna.rivals.labels import (
    answer_classes,
    clustered_classes,
    common_width,
    text_embeddings,
    varying_outputs,
)


def test_frequent_answers_are_classes_and_rare_ones_none() -> None:
    numbers, names = answer_classes(["Yes", "no", " yes ", "NO", "yes", "maybe"], least=2)
    assert names == ("yes", "no")
    assert numbers.tolist() == [0, 1, 0, 1, 0, NONE]
    assert answer_classes(["yes", "no"], least=3)[0].tolist() == [NONE, NONE]


def test_classes_do_not_depend_on_the_order_of_the_documents() -> None:
    answers = ["b", "a", "c", "a", "b", "c"]
    _, names = answer_classes(answers, least=2)
    assert names == answer_classes(answers[::-1], least=2)[1] == ("a", "b", "c")


def test_impossible_classes_are_refused() -> None:
    with pytest.raises(RivalError, match="0 answers"):
        answer_classes([])
    with pytest.raises(RivalError, match="a minimum of 0"):
        answer_classes(["a"], least=0)


def test_equal_texts_have_equal_embeddings_and_similar_ones_are_nearer() -> None:
    texts = ["a red square", "A red  square", "a red circle", "42 percent", "17 percent"]
    found = text_embeddings(texts)
    assert found.shape == (3, 5, 3)  # four different texts have three components
    assert text_embeddings(texts, width=2).shape == (3, 5, 2)
    for embedding in found:
        assert embedding[0] == pytest.approx(embedding[1], abs=1e-9)
        near = np.linalg.norm(embedding[0] - embedding[2])
        assert near < np.linalg.norm(embedding[0] - embedding[3])


def test_choices_of_one_letter_are_told_apart() -> None:
    found = text_embeddings(["A", "B", "C", "D", "A"])
    assert found.shape == (3, 5, 3)
    for embedding in found:
        assert len(np.unique(embedding.round(6), axis=0)) == 4


def test_embeddings_are_deterministic() -> None:
    texts = [f"text number {n}" for n in range(20)]
    assert (text_embeddings(texts) == text_embeddings(texts)).all()


def test_a_common_width_keeps_what_varies_most() -> None:
    """Distances are kept if no component is dropped; no embedding is padded with zeros."""
    rng = np.random.default_rng(0)
    wide, narrow = rng.standard_normal((30, 50)), rng.standard_normal((30, 4))
    found = common_width([wide, narrow], width=8)
    assert found.shape == (2, 30, 4)
    assert found.any(axis=1).all()
    before = np.linalg.norm(narrow[:, None] - narrow, axis=2)
    assert np.linalg.norm(found[1][:, None] - found[1], axis=2) == pytest.approx(before)
    assert common_width([wide, wide], width=8).shape == (2, 30, 8)


def test_what_cannot_be_embedded_is_refused() -> None:
    with pytest.raises(RivalError, match="none with a letter"):
        text_embeddings(["", " ?"])
    with pytest.raises(RivalError, match="same for all documents"):
        text_embeddings(["a", "a"])
    with pytest.raises(RivalError, match="width 0"):
        common_width([np.eye(3)], width=0)
    with pytest.raises(RivalError, match="0 embeddings"):
        common_width([], width=2)
    with pytest.raises(RivalError, match="3 rows"):
        common_width([np.eye(3), np.eye(4)], width=2)


def test_answers_that_never_recur_fall_into_clusters_of_similar_ones() -> None:
    dates = [f"monday {n} january" for n in range(10)]
    names = [f"mr smith-jones {n}" for n in range(10)]
    found = clustered_classes(text_embeddings(dates + names), count=2)
    assert set(found[:10]) != set(found[10:])
    assert len(set(found[:10])) == len(set(found[10:])) == 1
    again = clustered_classes(text_embeddings(dates + names), count=2)
    assert (found == again).all()


def test_more_clusters_than_answers_are_refused() -> None:
    with pytest.raises(RivalError, match="5 classes of 3 different answers"):
        clustered_classes(text_embeddings(["a", "b", "c", "a"]), count=5)


def test_outputs_are_the_columns_that_vary() -> None:
    embeddings = np.random.default_rng(0).standard_normal((2, 10, 3))
    embeddings[0, :, 1] = 5.0
    found = varying_outputs(embeddings, rows=10)
    assert found.shape == (10, 5)
    assert found.std(axis=0) == pytest.approx(1)
    with pytest.raises(RivalError, match="some must differ"):
        varying_outputs(np.ones((2, 10, 3)), rows=10)
