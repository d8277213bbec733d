"""Features: one vector per image, whatever the batch size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from mordal_optuna.errors import SimilarityError
from mordal_optuna.models.assemble import assemble
from mordal_optuna.progress import Silent
from mordal_optuna.representation.features import llm_features, vision_features
from tests import tiny

if TYPE_CHECKING:
    from pathlib import Path

    import torch

IMAGES = [Image.new("RGB", (40, 30), (20 * n, 100, 200 - 20 * n)) for n in range(7)]


@pytest.mark.parametrize("family", tiny.ENCODERS)
def test_vision_features_do_not_depend_on_the_batch(
    tmp_path: Path, family: str, cpu: torch.device
) -> None:
    source = tiny.encoder(tmp_path, family)
    found = [
        vision_features(
            source, IMAGES, batch_size=size, precision="fp32", device=cpu, progress=Silent()
        )
        for size in (1, 4)
    ]
    assert found[0].shape == (7, 32)
    assert found[0].dtype == np.float64
    assert np.allclose(*found, atol=1e-6)
    assert np.ptp(found[0], axis=0).max() > 1e-3  # images differ


@pytest.mark.parametrize("family", tiny.LLMS)
def test_llm_features_do_not_depend_on_the_batch(
    tmp_path: Path, family: str, cpu: torch.device
) -> None:
    vlm = assemble(
        tiny.encoder(tmp_path, "clip"),
        tiny.llm(tmp_path, family),
        lora=None,
        precision="fp32",
        seed=0,
        device=cpu,
    )
    found = [
        llm_features(vlm, IMAGES, batch_size=size, device=cpu, progress=Silent())
        for size in (1, 4)
    ]
    assert found[0].shape == (7, 32)
    assert np.allclose(*found, atol=1e-5)


def test_the_forward_pass_of_the_llm_keeps_no_keys_and_values(
    tmp_path: Path, cpu: torch.device
) -> None:
    """They take gigabytes for an LLM of 7B parameters, and nothing reads them."""
    parts = tiny.encoder(tmp_path, "clip"), tiny.llm(tmp_path, "llama")
    vlm = assemble(*parts, lora=None, precision="fp32", seed=0, device=cpu)
    kept = []
    vlm.model.model.language_model.register_forward_hook(
        lambda _, __, output: kept.append(output.past_key_values)
    )
    llm_features(vlm, IMAGES, batch_size=4, device=cpu, progress=Silent())
    assert kept == [None, None]


def test_at_least_one_image_and_batches_of_at_least_one_are_needed(
    tmp_path: Path, cpu: torch.device
) -> None:
    source = tiny.encoder(tmp_path, "clip")
    for images, size in ((IMAGES, 0), ([], 4)):
        with pytest.raises(SimilarityError, match=f"{len(images)} images and batch_size {size}"):
            vision_features(
                source, images, batch_size=size, precision="fp32", device=cpu, progress=Silent()
            )
