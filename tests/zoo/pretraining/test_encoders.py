"""The quick start's encoders: batches, and a loss that uses pictures and captions."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch

from mordal_optuna.zoo.pretraining.encoders import _batches, _Pretraining, _scenes
from mordal_optuna.zoo.recipe import EncoderRecipe

FAMILIES = ("clip", "siglip", "dinov2")


def test_four_scenes_in_a_row_have_the_same_colours() -> None:
    scenes = _scenes(10, np.random.default_rng(0))
    assert len(scenes) == 10
    for group in (scenes[:4], scenes[4:8], scenes[8:]):
        assert len({frozenset(thing.color for thing in scene.things) for scene in group}) == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_only_masked_patches_need_no_captions(
    family: Literal["clip", "siglip", "dinov2"],
) -> None:
    recipe = EncoderRecipe("x", family, 32, 1, 32, 8, 1, 4, 1e-3)
    pixels, scenes = next(_batches(recipe, np.random.default_rng(0)))
    assert pixels.shape == (4, 3, 32, 32)
    losses = []
    for shown in (scenes, _scenes(4, np.random.default_rng(1))):
        torch.manual_seed(0)
        losses.append(_Pretraining(recipe)(pixels, shown).item())
    assert (losses[0] == losses[1]) == (family == "dinov2")
