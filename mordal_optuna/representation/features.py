"""Features of models on images, one vector per image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.distributed.fsdp import FSDPModule

from mordal_optuna.errors import SimilarityError
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
    """Features of a vision encoder, from the layer that the projector reads.

    Args:
        source: location of the encoder.
        images: n images, at least 1.
        batch_size: number of images per batch, at least 1.
        precision: dtype of the encoder.
        device: torch device of the computation.
        progress: receives progress updates.
        processes: processes that share the batches; None for a single process.

    Returns:
        Mean over the patches of each image, n x width, float64.

    Raises:
        ModelError: if the encoder cannot be loaded.
        SimilarityError: if there are no images, or `batch_size` is below 1.
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
    """Features of an LLM on the image embeddings of its projector.

    Args:
        vlm: a candidate with a warmed-up projector.
        images: n images, at least 1.
        batch_size: number of images per batch, at least 1.
        device: torch device that holds the candidate.
        progress: receives progress updates.
        processes: processes that share the batches; None for a single process.

    Returns:
        Mean of the last hidden states over the tokens of each image, n x hidden width, float64.

    Raises:
        SimilarityError: if there are no images, or `batch_size` is below 1.
    """
    model = vlm.model.eval()
    tower = model.model.vision_tower

    def encode(batch: list[Image]) -> torch.Tensor:
        pixels = vlm.processor.image_processor(images=batch, return_tensors="pt")["pixel_values"]
        embeddings = model.get_image_features(pixels.to(device, tower.dtype)).pooler_output
        # Without a cache: it would hold keys and values of all layers, which nothing reads.
        hidden = model.model.language_model(inputs_embeds=torch.stack(embeddings), use_cache=False)
        return hidden.last_hidden_state.double().mean(dim=1)

    title = f"features of the LLM ({model.config.text_config.model_type})"
    if any(isinstance(module, FSDPModule) for module in model.modules()):
        # Every forward pass gathers the layers from all ranks, so all must run the same ones.
        group = processes or Processes()
        return group.run_on_all(
            lambda: _in_batches(images, encode, batch_size, title, progress, None)
        )
    return _in_batches(images, encode, batch_size, title, progress, processes)


def _in_batches(
    images: Sequence[Image],
    encode: Callable[[list[Image]], torch.Tensor],
    batch_size: int,
    title: str,
    progress: Progress,
    processes: Processes | None,
) -> np.ndarray:
    """Encode images in batches that do not depend on the number of processes."""
    if not images or batch_size < 1:
        raise SimilarityError(
            f"got {len(images)} images and batch_size {batch_size}; both must be at least 1"
        )
    group = processes or Processes()
    starts = range(0, len(images), batch_size)

    def compute() -> dict[int, np.ndarray]:
        share = {}
        # Not inference mode: what FSDP gathers in it cannot be trained on afterwards.
        with torch.no_grad(), progress.track(title, len(images)) as advance:
            for start in starts[group.rank :: group.world_size]:
                batch = list(images[start : start + batch_size])
                share[start] = encode(batch).cpu().numpy()
                advance(len(batch) * group.world_size)
        return share

    batches: dict[int, np.ndarray] = {}
    for share in group.gather(group.run_on_all(compute)):
        batches.update(share)
    return np.concatenate([batches[start] for start in starts])
