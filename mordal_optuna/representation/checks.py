"""Checks of features before models are compared by them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mordal_optuna.errors import SimilarityError

if TYPE_CHECKING:
    from collections.abc import Mapping


def check_features(features: Mapping[str, np.ndarray], *, least: int) -> None:
    """Refuse features that cannot be compared.

    Args:
        features: features of each model, images x width.
        least: minimum number of images.

    Raises:
        SimilarityError: if there is no model, or features are no matrix of finite numbers, have
            fewer images than `least`, or differ in their number of images; names the models.
    """
    if not features:
        raise SimilarityError("got features of no model; at least 1 model is needed")
    first = next(iter(features))
    for name, x in features.items():
        finite = bool(np.isfinite(x).all())
        if x.ndim != 2 or len(x) < least or not finite:
            raise SimilarityError(
                f"features of shape {x.shape}, all finite: {finite}; they must be finite "
                f"numbers, images x width, for at least {least} images",
                (name, name),
            )
        if len(x) != len(features[first]):
            raise SimilarityError(
                f"features of {len(features[first])} and {len(x)} images; both must be computed "
                "on the same images",
                (first, name),
            )
