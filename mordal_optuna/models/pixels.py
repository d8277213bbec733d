"""The image processor that makes an encoder's pixels, for training, scoring, comparison, export.

A pair's processor holds it, so that all four make the same pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from PIL.Image import Resampling
from transformers import CLIPImageProcessor, LlavaImageProcessor

from mordal_optuna.errors import ModelError

if TYPE_CHECKING:
    from transformers.image_processing_utils import BaseImageProcessor

    from mordal_optuna.pool import ModelSource

# What normalises pixel values, in every image processor of transformers.
_VALUES = ("resample", "do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std")


def pixel_processor(
    source: ModelSource, own: BaseImageProcessor | Mapping[str, Any]
) -> BaseImageProcessor:
    """The image processor of an encoder under its `image_aspect` and `image_size`.

    Args:
        source: the encoder, with its `image_aspect` and `image_size`.
        own: the checkpoint's own image processor; a mapping is a transform in timm's terms.

    Raises:
        ModelError: if `own` makes images that are not square where a square is needed, or has no
            equivalent that can be exported.
    """
    if source.image_aspect == "pad":
        if isinstance(own, Mapping):
            values = _timm_values(own)
        else:
            values = {name: getattr(own, name) for name in _VALUES}
        return padding_processor(source.image_size or _side(source.name, own), values)
    processor = _from_timm(source.name, own) if isinstance(own, Mapping) else own
    if source.image_size is None:
        return processor
    return _at_size(source.name, processor, source.image_size)


def padding_processor(side: int, values: Mapping[str, Any]) -> LlavaImageProcessor:
    """LLaVA-1.5's processing: pad to a square with the mean colour, resize, do not crop.

    Args:
        side: side of the square in pixels.
        values: interpolation and normalisation, by the names that image processors use.
    """
    square = {"height": side, "width": side}
    given = {name: value for name, value in values.items() if value is not None}
    return LlavaImageProcessor(
        do_pad=True, do_resize=True, size=square, do_center_crop=False, crop_size=square, **given
    )


def _side(name: str, own: BaseImageProcessor | Mapping[str, Any]) -> int:
    """Side of the square images that a processor makes."""
    if isinstance(own, Mapping):
        return _square(name, *own["input_size"][1:])
    if getattr(own, "do_center_crop", False) and own.crop_size:
        return _square(name, own.crop_size["height"], own.crop_size["width"])
    size = own.size
    if size.get("height") and size.get("width"):
        return _square(name, size["height"], size["width"])
    if size.get("shortest_edge"):
        return int(size["shortest_edge"])
    raise ModelError(
        name, f"has the image size {dict(size)}; set `image_size` to a side in pixels"
    )


def _square(name: str, height: int, width: int) -> int:
    if height != width:
        raise ModelError(
            name,
            f"takes images of {height} x {width} pixels; `image_aspect: pad` needs squares, so "
            "set its `image_size` or `image_aspect: own`",
        )
    return int(height)


def _at_size(name: str, own: BaseImageProcessor, side: int) -> BaseImageProcessor:
    """The checkpoint's own processing at another size; it crops the same share."""
    before = _side(name, own)
    square = {"height": side, "width": side}
    changed: dict[str, Any] = {"size": square}
    if own.size.get("shortest_edge"):
        changed["size"] = {"shortest_edge": round(own.size["shortest_edge"] * side / before)}
    elif getattr(own, "do_center_crop", False):
        changed["size"] = {k: round(own.size[k] * side / before) for k in square}
    if getattr(own, "crop_size", None):
        changed["crop_size"] = square
    return type(own).from_dict({**own.to_dict(), **changed})


def _timm_values(data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "resample": Resampling[data["interpolation"].upper()],
        "image_mean": list(data["mean"]),
        "image_std": list(data["std"]),
    }


def _from_timm(name: str, data: Mapping[str, Any]) -> BaseImageProcessor:
    """CLIP image processor that computes the same as timm's transform for evaluation.

    Raises:
        ModelError: if CLIP's processor has no equivalent of the crop mode.
    """
    _, height, width = data["input_size"]
    if data["crop_mode"] == "center":
        if height != width:
            raise ModelError(name, f"crops to {height} x {width} pixels; a square is supported")
        side = int(height / data["crop_pct"])
        size = {"shortest_edge": side}
    elif data["crop_mode"] == "squash":
        size = {"height": int(height / data["crop_pct"]), "width": int(width / data["crop_pct"])}
    else:
        raise ModelError(
            name,
            f"has the crop mode {data['crop_mode']!r}; with `image_aspect: own` center and squash "
            "are supported",
        )
    return CLIPImageProcessor(
        size=size, crop_size={"height": height, "width": width}, **_timm_values(data)
    )
