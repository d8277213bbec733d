"""Documents' values: packed without loss, and compared one by one."""

from __future__ import annotations

import numpy as np
import pytest

from mordal_optuna.search.answers import Answers, contrast
from mordal_optuna.search.curves import Measurement


def scored(
    values: np.ndarray,
    clusters: list[int] | None = None,
    *,
    samples: int = 1024,
    documents: str = "a" * 64,
) -> Measurement:
    answers = Answers.of(values.tolist(), clusters, documents)
    stderr = float(values.std(ddof=1) / len(values) ** 0.5)
    score = float(values.mean())
    return Measurement(samples, score, stderr, len(values), answers=answers.packed())


def test_packed_answers_are_read_back() -> None:
    values, clusters = [0.0, 1.0, 0.3, 1.0], [7, 3, 7, 9]
    found = Answers.unpacked(Answers.of(values, clusters, "0123456789abcdef" * 4).packed())
    assert found.documents == "0123456789abcdef"
    assert found.sums.tolist() == pytest.approx([1.0, 0.3, 1.0])  # clusters 3, 7, 9
    assert found.sizes.tolist() == [1, 2, 1]


def test_twelve_thousand_documents_fit_into_an_attribute() -> None:
    """MySQL holds 64 KB."""
    rng = np.random.default_rng(0)
    assert len(Answers.of(rng.integers(0, 2, 12_578).tolist(), None, "d").packed()) < 10_000
    graded = Answers.of(rng.random(5_349).tolist(), None, "d").packed()
    assert len(graded) < 60_000


def test_a_paired_difference_has_a_smaller_error_than_each_score() -> None:
    rng = np.random.default_rng(1)
    hard = rng.random(400)
    one = (hard < 0.7).astype(float)
    other = ((hard < 0.65) ^ (rng.random(400) < 0.05)).astype(float)
    seen = contrast([scored(one)], [scored(other)])
    assert seen is not None
    assert seen.paired
    difference = one - other
    assert seen.difference == pytest.approx(difference.mean())
    assert seen.stderr == pytest.approx(difference.std(ddof=1) / 20)
    apart = contrast([scored(one)], [scored(other, documents="b" * 64)])
    assert apart is not None
    assert not apart.paired
    assert apart.stderr > 1.5 * seen.stderr


def test_documents_of_a_cluster_count_together() -> None:
    """Four documents an image that all differ alike are one observation, not four."""
    rng = np.random.default_rng(2)
    one = np.repeat(rng.integers(0, 2, 50), 4).astype(float)
    other = np.repeat(rng.integers(0, 2, 50), 4).astype(float)
    clusters = np.repeat(np.arange(50), 4).tolist()
    alone = contrast([scored(one)], [scored(other)])
    clustered = contrast([scored(one, clusters)], [scored(other, clusters)])
    assert alone is not None
    assert clustered is not None
    assert clustered.stderr == pytest.approx(2 * alone.stderr, rel=0.02)


def test_the_highest_rung_that_both_have_is_compared() -> None:
    values = np.array([0.0, 1.0, 1.0, 0.0])
    long = [scored(values, samples=n) for n in (512, 1024, 2048)]
    short = [scored(1 - values, samples=n) for n in (512, 1024)]
    seen = contrast(long, short)
    assert seen is not None
    assert seen.samples == 1024
    assert contrast(long[2:], short) is None


def test_agreement_on_every_document_is_not_certainty() -> None:
    values = np.array([0.0, 1.0] * 50)
    seen = contrast([scored(values)], [scored(values)])
    assert seen is not None
    assert seen.stderr == pytest.approx(0.005)  # half a document of a hundred


def test_scores_without_documents_are_compared_by_their_own_noise() -> None:
    seen = contrast([Measurement(8, 0.6, 0.03, 300)], [Measurement(8, 0.5, 0.04, 300)])
    assert seen is not None
    assert seen.stderr == pytest.approx(0.05)
    assert not seen.paired
