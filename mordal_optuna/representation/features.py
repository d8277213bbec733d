"""Features of models on images, one vector an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from mordal_optuna.models.towers import load_encoder
from mordal_optuna.processes.group import Processes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from PIL.Image import Image

    from mordal_optuna.models.assemble import Vlm
    from mordal_optuna.models.loading import Precision
    from mordal_optuna.pool import ModelSource
    from mordal_optuna.progress import Progress


def vision_features(
    source: ModelSource,
    images: Sequence[Image],
    *,
    batch_size: int,
    precision: Precision,
    device: torch.device,
    progress: Progress,
    processes: Processes | None = None,
) -> np.ndarray:
    """What an encoder makes of images, at the layer that alignment feeds on.

    Args:
        source: the encoder.
        images: n images.
        batch_size: images encoded at once.
        precision: dtype of the encoder.
        device: where to compute.
        progress: is told of images done.
        processes: that compute a share each; None for a single one.

    Returns:
        n x width, float64: the mean over the patches of each image.

    Raises:
        ModelError: if the encoder cannot be loaded.
    """
    encoder = load_encoder(source, precision, device)

    def encode(batch: list[Image]) -> torch.Tensor:
        return encoder.features(encoder.pixels(batch).to(device)).double().mean(dim=1)

    return _in_batches(
        images, encode, batch_size, f"features of {source.name}", progress, processes
    )


def llm_features(
    vlm: Vlm,
    images: Sequence[Image],
    *,
    batch_size: int,
    device: torch.device,
    progress: Progress,
    processes: Processes | None = None,
) -> np.ndarray:
    """What an LLM makes of the image embeddings its projector hands it.

    Args:
        vlm: a candidate with a warmed-up projector.
        images: n images.
        batch_size: images at once.
        device: where the candidate lives.
        progress: is told of images done.
        processes: that compute a share each; None for a single one.

    Returns:
        n x hidden width, float64: the mean of the last hidden states over the image's tokens.
    """
    model = vlm.model.eval()
    tower = model.model.vision_tower

    def encode(batch: list[Image]) -> torch.Tensor:
        pixels = vlm.processor.image_processor(images=batch, return_tensors="pt")["pixel_values"]
        embeddings = model.get_image_features(pixels.to(device, tower.dtype)).pooler_output
        hidden = model.model.language_model(inputs_embeds=torch.stack(embeddings))
        return hidden.last_hidden_state.double().mean(dim=1)

    name = model.config.text_config.model_type
    return _in_batches(
        images, encode, batch_size, f"features of the LLM ({name})", progress, processes
    )


def _in_batches(
    images: Sequence[Image],
    encode: Callable[[list[Image]], torch.Tensor],
    batch_size: int,
    title: str,
    progress: Progress,
    processes: Processes | None,
) -> np.ndarray:
    """Batches are the same whoever computes them, so that the features are."""
    team = processes or Processes()
    starts = range(0, len(images), batch_size)

    def compute() -> dict[int, np.ndarray]:
        own = {}
        with torch.inference_mode(), progress.track(title, len(images)) as advance:
            for start in starts[team.rank :: team.world_size]:
                batch = list(images[start : start + batch_size])
                own[start] = encode(batch).cpu().numpy()
                advance(len(batch) * team.world_size)
        return own

    parts: dict[int, np.ndarray] = {}
    for share in team.gather(team.run_on_all(compute)):
        parts.update(share)
    return np.concatenate([parts[start] for start in starts])
