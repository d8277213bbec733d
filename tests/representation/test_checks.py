"""Features that cannot be compared are refused, and the models are named."""

from __future__ import annotations

import numpy as np
import pytest

from mordal_optuna.errors import SimilarityError
from mordal_optuna.representation.checks import check_features

GOOD = np.arange(8.0).reshape(4, 2)


def test_enough_finite_features_of_the_same_images_pass() -> None:
    check_features({"a": GOOD, "b": GOOD[:, :1]}, least=4)


@pytest.mark.parametrize(
    ("features", "models", "sentence"),
    [
        ({"a": GOOD, "b": GOOD[0]}, ("b", "b"), r"shape \(2,\)"),
        ({"a": GOOD[:3]}, ("a", "a"), "for at least 4 images"),
        ({"a": np.where(GOOD == 3, np.nan, GOOD)}, ("a", "a"), "all finite: False"),
        ({"a": GOOD, "b": np.vstack([GOOD, GOOD])}, ("a", "b"), "4 and 8 images"),
    ],
)
def test_features_that_cannot_be_compared_are_refused(
    features: dict[str, np.ndarray], models: tuple[str, str], sentence: str
) -> None:
    with pytest.raises(SimilarityError, match=sentence) as caught:
        check_features(features, least=4)
    assert caught.value.pair == models


def test_at_least_one_model_is_needed() -> None:
    with pytest.raises(SimilarityError, match="at least 1 model"):
        check_features({}, least=4)
