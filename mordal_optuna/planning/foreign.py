"""Sizes of vision encoders in formats that transformers does not read; loads no torch.

`models.foreign` converts these formats when their weights are loaded. Here only sizes are read:
from InternViT's and AIMv2's own configurations, from `open_clip_config.json`, and from the names
of timm's architectures.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from mordal_optuna.errors import ModelError
from mordal_optuna.models.families import vision_family
from mordal_optuna.planning.shapes import EncoderShape, encoder_shape, transformer

if TYPE_CHECKING:
    from collections.abc import Mapping

# Width, layers and feed-forward width of timm's sizes, by a part of an architecture's name.
_TIMM = {
    "tiny": (192, 12, 768),
    "small": (384, 12, 1536),
    "base": (768, 12, 3072),
    "large": (1024, 24, 4096),
    "huge": (1280, 32, 5120),
}
# The same of CLIP-trained ConvNeXts: widths and depths of the four stages.
_TIMM_CONVNEXT = {
    "base": ([128, 256, 512, 1024], [3, 3, 27, 3]),
    "large": ([192, 384, 768, 1536], [3, 3, 27, 3]),
    "xxlarge": ([384, 768, 1536, 3072], [3, 4, 30, 3]),
}


class _Named:
    """What `vision_family` reads of a configuration of timm."""

    model_type = "timm_wrapper"

    def __init__(self, architecture: str) -> None:
        self.architecture = architecture


def published_shape(name: str, config: Mapping[str, Any], side: int | None) -> EncoderShape | None:
    """Sizes of an InternViT or AIMv2 as its authors published it.

    Args:
        name: name of the encoder, for errors.
        config: content of its `config.json`.
        side: side of its images in pixels; None for that of its configuration.

    Returns:
        The sizes; None for every other model.
    """
    if config.get("model_type") == "intern_vit_6b":
        return encoder_shape(name, {**config, "model_type": "internvl_vision"}, side)
    if config.get("model_type") == "aimv2" and "AIMv2Model" in (config.get("architectures") or ()):
        return encoder_shape(name, {**config, "model_type": "aimv2_vision_model"}, side)
    return None


def open_clip_shape(name: str, config: Mapping[str, Any], side: int | None) -> EncoderShape:
    """Sizes of an encoder of open_clip.

    Args:
        name: name of the encoder, for errors.
        config: content of its `open_clip_config.json`.
        side: side of its images in pixels; None for that of its configuration.

    Raises:
        ModelError: if its architecture is not supported.
    """
    vision = config["model_cfg"]["vision_cfg"]
    given = (config.get("preprocess_cfg") or {}).get("size") or vision.get("image_size", 224)
    own = int(given[0] if isinstance(given, list) else given)
    if vision.get("timm_model_name"):
        return timm_shape(name, str(vision["timm_model_name"]), side or own)
    if isinstance(vision.get("layers"), list):
        raise ModelError(name, "is a ResNet of open_clip; plain ViTs and timm's are supported")
    width = int(vision.get("width", 768))
    return transformer(
        "open_clip",
        width=width,
        layers=int(vision.get("layers", 12)),
        intermediate=int(width * vision.get("mlp_ratio", 4.0)),
        side=side or own,
        patch=int(vision.get("patch_size", 16)),
        extra=1,
    )


def timm_shape(name: str, architecture: str, side: int | None) -> EncoderShape:
    """Sizes of a model of timm, by its architecture's name.

    Args:
        name: name of the encoder, for errors.
        architecture: timm's name, such as `eva02_large_patch14_clip_336`.
        side: side of its images in pixels; None for the number at the end of the name, or 224.

    Raises:
        ModelError: if the architecture is not supported, or the name tells no size.
    """
    vision_family(name, _Named(architecture))
    numbers = re.findall(r"_(\d{3})(?=_|\.|$)", architecture.split(".")[0])
    side = side or (int(numbers[-1]) if numbers else 224)
    sizes = _TIMM_CONVNEXT if architecture.startswith("convnext") else _TIMM
    found = next((size for size in sizes if f"_{size}" in architecture), None)
    if found is None:
        raise ModelError(
            name,
            f"timm's {architecture!r} has a size that is not known here; nothing is estimated",
        )
    if architecture.startswith("convnext"):
        widths, depths = _TIMM_CONVNEXT[found]
        config = {"model_type": "convnext", "hidden_sizes": widths, "depths": depths}
        return encoder_shape(name, config, side)
    width, layers, intermediate = _TIMM[found]
    patch = re.search(r"patch(\d+)", architecture)
    # EVA-02's feed-forward layers are gated, with two thirds of the width.
    gated = architecture.startswith("eva02")
    return transformer(
        architecture,
        width=width,
        layers=layers,
        intermediate=intermediate * 2 // 3 if gated else intermediate,
        side=side,
        patch=int(patch.group(1)) if patch else 16,
        extra=1,
        gated=gated,
    )
