"""Standard errors and paired differences, by hand and against simulation."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mordal_optuna.errors import EvaluationError
from mordal_optuna.evaluation.documents import (
    paired_difference,
    reference_values,
    standard_error,
)
from tests.evaluation.seven import SEVEN, built

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", SEVEN)
def test_tasks_can_read_their_own_reference_answers(tmp_path: Path, name: str) -> None:
    """By lmms-eval's own code; random generators, which some of it draws from, stay unchanged."""
    task = built(name, tmp_path)
    state = random.getstate()
    values = reference_values(task, task.references(4))
    if name == "vizwiz_vqa_val":  # people answered differently
        assert all(0.3 <= value <= 1 for value in values)
    else:
        assert values == (1.0,) * min(4, len(task.documents))
    assert random.getstate() == state
    assert sum(reference_values(task, ["no such answer"] * 2)) < 2


def test_without_clusters_it_is_the_sample_standard_error() -> None:
    values = [0.0, 1.0, 1.0, 0.0, 1.0]
    expected = np.std(values, ddof=1) / math.sqrt(5)
    assert standard_error(values, None) == pytest.approx(expected)


def test_documents_that_repeat_one_another_count_once() -> None:
    """Doubled documents, clustered in pairs, give the standard error of the originals."""
    values = [0.0, 1.0, 1.0, 0.0, 1.0]
    doubled = [v for v in values for _ in range(2)]
    clusters = [n for n in range(5) for _ in range(2)]
    assert standard_error(doubled, clusters) == pytest.approx(standard_error(values, None))
    assert standard_error(doubled, None) < standard_error(doubled, clusters)


def test_one_cluster_has_an_infinite_standard_error() -> None:
    assert standard_error([0.0, 1.0], [0, 0]) == math.inf


def test_clustered_errors_hold_the_truth_as_often_as_they_claim() -> None:
    """400 drawn sets of 60 images with 1 to 8 questions that share a difficulty."""
    chance = np.random.default_rng(0)
    inside = {"clustered": 0, "naive": 0}
    for _ in range(400):
        sizes = chance.integers(1, 9, 60)
        clusters = np.repeat(np.arange(60), sizes)
        likely = chance.beta(1.0, 1.0, 60)[clusters]
        values = (chance.random(len(clusters)) < likely).astype(float)
        for name, groups in (("clustered", clusters.tolist()), ("naive", None)):
            error = standard_error(values.tolist(), groups)
            inside[name] += abs(values.mean() - 0.5) < 1.96 * error
    assert inside["clustered"] / 400 > 0.91
    assert inside["naive"] / 400 < 0.85


def test_differences_are_paired() -> None:
    """The difference of two candidates that err on the same documents has a small error."""
    first = [1.0, 0.0] * 50
    second = [1.0, 0.0] * 49 + [0.0, 0.0]
    difference, error = paired_difference(first, second, None)
    assert difference == pytest.approx(0.01)
    assert error == pytest.approx(0.01)
    assert error < standard_error(first, None) / 4
    with pytest.raises(EvaluationError, match="100 and 99 documents"):
        paired_difference(first, second[1:], None)


def test_numbers_of_clusters_may_have_gaps() -> None:
    """A subset of documents may lack some clusters."""
    values = [0.0, 1.0, 1.0, 0.0]
    assert standard_error(values, [0, 0, 3, 7]) == standard_error(values, [0, 0, 1, 2])
