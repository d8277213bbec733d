"""Vision encoders at another image size than their own.

Symbols:
    s    side of the images in pixels
    p    side of a patch in pixels
    g    patches along a side, the integer part of s / p
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from mordal_optuna.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from mordal_optuna.models.families import VisionFamily


def resize(name: str, tower: PreTrainedModel, family: VisionFamily, side: int) -> None:
    """Make an encoder take images of a size; those that take any size stay as they are.

    Args:
        name: name of the encoder, for errors.
        tower: loaded tower of the family; changed in place, and so is its configuration.
        family: description of the architecture.
        side: side of the images in pixels.

    Raises:
        ModelError: if the size is below one patch, or the architecture has a fixed image size.
    """
    patch = family.patch_size(tower)
    if side < patch:
        raise ModelError(name, f"got image_size {side}; the least is one patch of {patch} pixels")
    if family.image_sizes == "timm":
        _resize_timm(name, tower, side)
    elif family.image_sizes == "table" and not getattr(tower.config, "is_native", False):
        _interpolate(tower, side, patch, first=int(family.class_token))


def _resize_timm(name: str, tower: PreTrainedModel, side: int) -> None:
    if not hasattr(tower.timm_model, "set_input_size"):
        raise ModelError(
            name,
            f"got image_size {side}; timm's {tower.config.architecture!r} has a fixed image size",
        )
    tower.timm_model.set_input_size(img_size=side)
    tower.config.model_args = {**(tower.config.model_args or {}), "img_size": side}


def _interpolate(tower: PreTrainedModel, side: int, patch: int, *, first: int) -> None:
    """Interpolate learned positions to g x g patches, bicubically as transformers does.

    Args:
        tower: tower with `embeddings`.
        side: side of the images in pixels.
        patch: side of a patch in pixels.
        first: number of positions before those of the patches.
    """
    embeddings, grid = tower.embeddings, side // patch
    learned = getattr(embeddings, "position_embedding", None)
    table = learned.weight if learned is not None else embeddings.position_embeddings[0]
    with torch.no_grad():
        table = interpolated(table, grid, first=first)
    if learned is not None:  # CLIP, SigLIP, AIMv2
        embeddings.position_embedding = torch.nn.Embedding.from_pretrained(table)
        embeddings.position_ids = torch.arange(len(table), device=table.device)[None]
        embeddings.num_patches, embeddings.num_positions = grid**2, len(table)
        embeddings.image_size = side
    else:  # ViT
        embeddings.position_embeddings = torch.nn.Parameter(table[None])
        embeddings.patch_embeddings.num_patches = grid**2
        embeddings.patch_embeddings.image_size = embeddings.image_size = (side, side)
    tower.config.image_size = side


def interpolated(table: torch.Tensor, grid: int, *, first: int) -> torch.Tensor:
    """Position embeddings of a square grid, interpolated to another one.

    Args:
        table: positions x width; the patches' ones row by row.
        grid: g, patches along a side of the new grid.
        first: number of positions before those of the patches, which stay as they are.

    Returns:
        (first + g * g) x width.
    """
    patches = table[first:].T.float()
    before = round(patches.shape[1] ** 0.5)
    square = patches.reshape(1, -1, before, before)
    resized = torch.nn.functional.interpolate(
        square, size=(grid, grid), mode="bicubic", align_corners=False
    )
    return torch.cat([table[:first], resized[0].flatten(1).T.to(table.dtype)])
