"""Sizes of encoders in formats of their own."""

from __future__ import annotations

import pytest

from mordal_optuna.errors import ModelError
from mordal_optuna.planning.foreign import open_clip_shape, published_shape, timm_shape


@pytest.mark.parametrize(
    ("architecture", "tokens", "width", "millions"),
    [
        ("vit_large_patch14_clip_336", 576, 1024, 304),
        ("vit_huge_patch14_clip_378", 729, 1280, 631),
        ("eva02_large_patch14_clip_336", 576, 1024, 304),
        ("convnext_large_mlp", 64, 1536, 196),
    ],
)
def test_timms_names_tell_the_sizes(
    architecture: str, tokens: int, width: int, millions: float
) -> None:
    """Parameters without a head, as timm counts them."""
    side = 256 if architecture.startswith("convnext") else None
    shape = timm_shape("v", architecture, side)
    assert (shape.image_tokens, shape.width) == (tokens, width)
    assert shape.parameters / 1e6 == pytest.approx(millions, rel=0.01)


def test_a_name_without_a_known_size_is_refused() -> None:
    with pytest.raises(ModelError, match="has a size that is not known"):
        timm_shape("v", "vit_giant_patch14_224", None)
    with pytest.raises(ModelError, match="not supported"):
        timm_shape("v", "resnet50", None)


def test_open_clips_and_published_formats() -> None:
    vision = {"image_size": 224, "layers": 12, "width": 768, "patch_size": 32}
    shape = open_clip_shape("v", {"model_cfg": {"vision_cfg": vision}}, None)
    assert (shape.image_tokens, shape.layers) == (49, 12)
    with pytest.raises(ModelError, match="ResNet"):
        open_clip_shape("v", {"model_cfg": {"vision_cfg": {"layers": [3, 4, 6, 3]}}}, None)
    intern = {
        **{"model_type": "intern_vit_6b", "hidden_size": 1024, "num_hidden_layers": 24},
        **{"intermediate_size": 4096, "image_size": 448, "patch_size": 14},
    }
    found = published_shape("v", intern, None)
    assert found is not None
    assert found.image_tokens == 1024
    assert published_shape("v", {"model_type": "clip"}, None) is None
