"""Vision encoders that return patch features, with the same interface for all families."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mordal_optuna.models.families import vision_family
from mordal_optuna.models.llava import give_patches
from mordal_optuna.models.loading import (
    Precision,
    load_config,
    load_image_processor,
    load_weights,
)
from mordal_optuna.models.resizing import resize

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from PIL.Image import Image
    from transformers import PreTrainedModel
    from transformers.image_processing_utils import BaseImageProcessor

    from mordal_optuna.models.families import VisionFamily
    from mordal_optuna.models.images import Picture
    from mordal_optuna.pool import ModelSource


@dataclass
class Encoder:
    """A vision encoder with its image processor.

    Attributes:
        tower: frozen model in eval mode.
        image_processor: processor that converts images to pixel values.
        family: description of the architecture.
    """

    tower: PreTrainedModel
    image_processor: BaseImageProcessor
    family: VisionFamily

    def pixels(self, images: list[Image]) -> torch.Tensor:
        """Convert images to pixel values, images x channels x height x width.

        Args:
            images: RGB images.
        """
        values = self.image_processor(images=images, return_tensors="pt")["pixel_values"]
        return values.to(dtype=self.tower.dtype)

    def read(self, pictures: Sequence[Picture]) -> torch.Tensor:
        """Decode images and convert them to pixel values, images x channels x height x width.

        Args:
            pictures: paths or contents of image files.

        Raises:
            DataError: if an image cannot be decoded.
        """
        from mordal_optuna.models.images import open_image  # loads Pillow, needed here only

        return self.pixels([open_image(picture) for picture in pictures])

    def features(self, pixels: torch.Tensor) -> torch.Tensor:
        """Compute the patch features that are fed to the projector, images x patches x width.

        Args:
            pixels: pixel values, images x channels x height x width, on the tower's device.
        """
        hidden = self.tower(pixels, output_hidden_states=True).hidden_states
        layer = hidden[self.family.feature_layer]
        return layer[:, 1:] if self.family.class_token else layer


def load_encoder(source: ModelSource, precision: Precision, device: torch.device) -> Encoder:
    """Load the vision tower of a model, frozen and in eval mode.

    Args:
        source: name and location of the encoder, or of a model that contains one.
        precision: `fp32` or `bf16`, the dtype of the weights.
        device: torch device for the tower.

    Raises:
        ModelError: if it cannot be loaded, is not supported, or lacks weights.
    """
    family = vision_family(source.name, load_config(source))
    tower = load_weights(
        source,
        family.tower_class(),
        precision,
        device,
        key_mapping=dict(family.key_mapping) or None,
        optional=family.optional,
    )
    if source.image_size is not None:
        resize(source.name, tower, family, source.image_size)
    tower.requires_grad_(False)
    if family.feature_map:
        tower.config.hidden_size = family.width(tower)
        # transformers counts from the end by this number, which DINOv3's ConvNeXt does not have.
        if tower.config.model_type == "dinov3_convnext":
            tower.config.num_hidden_layers = len(tower.config.hidden_sizes)
    give_patches(
        tower,
        layer=family.feature_layer,
        registers=family.register_tokens(tower.config),
        feature_map=family.feature_map,
    )
    return Encoder(tower.eval(), load_image_processor(source), family)
