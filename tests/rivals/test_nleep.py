"""NLEEP: clusters that match the classes score high, for any seed and rotation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from mordal_optuna.errors import RivalError
from mordal_optuna.rivals.checks import NONE
from mordal_optuna.rivals.nleep import nleep

N, CLASSES = 150, 3


def grouped(distance: float, width: int = 12) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.arange(N) % CLASSES
    features = rng.standard_normal((N, width))
    features[:, :CLASSES] += distance * np.eye(CLASSES)[labels]
    return features, labels


def test_the_further_apart_the_classes_the_higher_up_to_0() -> None:
    near, middle, far = (nleep(*grouped(distance)) for distance in (0.0, 3.0, 30.0))
    assert -np.log(CLASSES) < near < middle - 0.3
    assert middle < far
    assert far == pytest.approx(0, abs=1e-6)


def test_the_same_seeds_give_the_same_score_and_others_another() -> None:
    features, labels = grouped(2.0)
    assert nleep(features, labels) == nleep(features, labels)
    alone = [nleep(features, labels, seeds=(seed,)) for seed in (0, 1)]
    assert alone[0] != alone[1]
    assert nleep(features, labels, seeds=(0, 1)) == pytest.approx(np.mean(alone))


def test_rotations_and_scales_of_the_features_do_not_matter() -> None:
    features, labels = grouped(3.0)
    value = nleep(features, labels)
    turn = stats.special_ortho_group(features.shape[1], seed=1).rvs()
    assert nleep(features @ turn, labels) == pytest.approx(value, abs=1e-6)
    assert nleep(1e-4 * features + 7, labels) == pytest.approx(value, abs=1e-6)


def test_components_are_capped_by_documents() -> None:
    """150 documents, 10 each: at most 15 components; fewer each raise the score."""
    features, labels = grouped(0.0)
    assert nleep(features, labels, ratio=5) == nleep(features, labels, ratio=100)
    assert nleep(features, labels, ratio=100, documents_each=2) > nleep(features, labels) + 0.3


def test_documents_without_a_class_are_left_out() -> None:
    features, labels = grouped(2.0)
    some = np.where(np.arange(N) % 4, labels, NONE)
    kept = some != NONE
    assert nleep(features, some) == nleep(features[kept], labels[kept])


def test_too_few_documents_or_no_difference_are_refused() -> None:
    features, labels = grouped(2.0)
    with pytest.raises(RivalError, match=r"15 documents with a class give 1 component"):
        nleep(features[:15], labels[:15])
    with pytest.raises(RivalError, match="same features"):
        nleep(np.ones((N, 3)), labels)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"variance": 1.0}, "variance must lie between 0 and 1"),
        ({"variance": 0.0}, "variance must lie between 0 and 1"),
        ({"ratio": 0}, "must be at least 1"),
        ({"documents_each": 0}, "must be at least 1"),
        ({"covariance": "round"}, "covariance: got 'round'; allowed are full, "),
        ({"seeds": ()}, "0 seed"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RivalError, match=sentence):
        nleep(*grouped(2.0), **options)
