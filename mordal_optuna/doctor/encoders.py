"""Checks of a vision encoder: its layer, and the features of images of the study's own data."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from mordal_optuna.doctor.findings import Check, failed, ok, skipped, warning
from mordal_optuna.models.towers import load_encoder

if TYPE_CHECKING:
    from PIL.Image import Image

    from mordal_optuna.doctor.findings import Verdict
    from mordal_optuna.models.loading import Precision
    from mordal_optuna.models.towers import Encoder
    from mordal_optuna.planning.shapes import EncoderShape
    from mordal_optuna.pool import ModelSource

# Features whose cosine with those of another image is larger are taken for the same.
_SAME = 0.9999


@dataclass(frozen=True)
class OpenEncoder:
    """A loaded encoder.

    Attributes:
        name: name of the encoder.
        encoder: the encoder.
        promised: sizes that follow from its configuration; None if they are not known.
        images: different images of the study's data.
        device: torch device of the encoder.
    """

    name: str
    encoder: Encoder
    promised: EncoderShape | None
    images: tuple[Image, ...]
    device: torch.device

    @cached_property
    def pixels(self) -> torch.Tensor:
        """Pixel values of the images, images x channels x height x width."""
        return self.encoder.pixels(list(self.images)).to(self.device)

    @cached_property
    def features(self) -> torch.Tensor:
        """Features of the images, images x patches x width, in single precision."""
        with torch.no_grad():
            return self.encoder.features(self.pixels).float()


def open_encoder(
    source: ModelSource,
    precision: Precision,
    device: torch.device,
    images: tuple[Image, ...],
    promised: EncoderShape | None,
) -> tuple[OpenEncoder, Verdict]:
    """Load an encoder as candidates do.

    Args:
        source: the encoder.
        precision: `fp32` or `bf16`, the dtype of its weights.
        device: torch device.
        images: different images of the study's data.
        promised: sizes that follow from its configuration; None if they are not known.

    Returns:
        The encoder, and its family, dtype and number of parameters.

    Raises:
        ModelError: if it cannot be loaded.
    """
    encoder = load_encoder(source, precision, device)
    tower = encoder.tower
    return (
        OpenEncoder(source.name, encoder, promised, images, device),
        ok(f"{tower.config.model_type}, {precision}, {parameters(tower)} parameters"),
    )


def parameters(module: torch.nn.Module) -> str:
    """Number of parameters as text, such as `304.2 M`.

    Args:
        module: a model.
    """
    count = sum(parameter.numel() for parameter in module.parameters())
    return f"{count / 1e9:.2f} G" if count >= 1e9 else f"{count / 1e6:.2f} M"


def read_layer(opened: OpenEncoder) -> Verdict:
    """The layer that is read exists, is not the first one, and mixes patches.

    Features of a layer before the first attention depend on the pixels of their own patch alone,
    so a change of one patch shows how deep a layer is, whatever its number says.

    Args:
        opened: the encoder.
    """
    encoder, layer = opened.encoder, opened.encoder.family.feature_layer
    pixels = opened.pixels[:1]
    with torch.no_grad():
        hidden = encoder.tower(pixels, output_hidden_states=True).hidden_states
    last = len(hidden) - 1
    number = layer if layer >= 0 else last + 1 + layer
    if not 0 <= number <= last:
        return failed(
            f"hidden state {layer} is read, which it does not have: they are 0 to {last}"
        )
    reached, of = _reached(opened)
    text = (
        f"hidden state {number} of {last} is read; a change of one patch reaches {reached} of "
        f"{of} features"
    )
    if reached <= 1:
        reason = f"{text}, so the features hold single patches, as before the first layer"
        # The layer before the last of a tower with one layer; no study file can name another.
        return warning(reason) if last == 1 else failed(reason)
    if 2 * number < last:
        return warning(f"{text}; layers in the lower half are rarely the best")
    return ok(text)


def promised_size(opened: OpenEncoder) -> Verdict:
    """The features have as many tokens, and channels, as the configuration promises.

    Args:
        opened: the encoder.
    """
    found = tuple(opened.features.shape[1:])
    text = f"{found[0]} tokens of width {found[1]} an image"
    if opened.promised is None:
        return warning(f"{text}; its configuration does not tell how many to expect")
    wanted = (opened.promised.image_tokens, opened.promised.width)
    if found != wanted:
        return failed(
            f"{text}; its configuration promises {wanted[0]} tokens of width {wanted[1]}"
        )
    return ok(f"{text}, as its configuration promises")


def finite_numbers(opened: OpenEncoder) -> Verdict:
    """All features are finite numbers.

    Args:
        opened: the encoder.
    """
    features = opened.features
    bad = int((~features.isfinite()).sum())
    if bad:
        return failed(
            f"{bad:,} of {features.numel():,} features are not finite; fp32 in place of bf16 may "
            "help"
        )
    return ok(
        f"{features.numel():,} features between {features.min():.3g} and {features.max():.3g}"
    )


def images_differ(opened: OpenEncoder) -> Verdict:
    """Different images have different features.

    Args:
        opened: the encoder.
    """
    count = len(opened.images)
    if count < 2:
        return skipped("the first samples show one image only")
    flat = torch.nn.functional.normalize(opened.features.flatten(1), dim=1)
    alike = (flat @ flat.T)[~torch.eye(count, dtype=torch.bool, device=flat.device)]
    text = f"features of {count} images have cosines up to {float(alike.max()):.4f}"
    if not float(alike.max()) <= _SAME:
        return failed(f"{text}: different images have the same features")
    return ok(text)


def _reached(opened: OpenEncoder) -> tuple[int, int]:
    """Number of features that a change of the first patch changes, and of all features."""
    side = opened.encoder.family.patch_size(opened.encoder.tower)
    pixels = opened.pixels[:1]
    changed = pixels.clone()
    changed[..., :side, :side] = 1.0 - changed[..., :side, :side]
    with torch.no_grad():
        first, second = (opened.encoder.features(p)[0] for p in (pixels, changed))
    return int((first != second).any(dim=1).sum()), len(first)


ENCODER_CHECKS: tuple[Check[OpenEncoder], ...] = (
    Check("layer", read_layer),
    Check("tokens", promised_size),
    Check("numbers", finite_numbers),
    Check("images", images_differ),
)
