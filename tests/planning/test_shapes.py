"""Sizes from configurations: published ones, and those of real modules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from mordal_optuna.config import LoraSettings
from mordal_optuna.errors import ModelError
from mordal_optuna.planning.models import public_models
from mordal_optuna.planning.shapes import encoder_shape, llm_shape

if TYPE_CHECKING:
    from pathlib import Path

    import torch

# Numbers of parameters of safetensors files, as the model cards show them, in 10^9.
PUBLISHED = {
    "meta-llama/Llama-2-7b-chat-hf": 6.74,
    "meta-llama/Meta-Llama-3-8B-Instruct": 8.03,
    "mistralai/Mistral-7B-Instruct-v0.2": 7.24,
    "Qwen/Qwen2-7B-Instruct": 7.62,
    "google/gemma-1.1-7b-it": 8.54,
    "microsoft/Phi-3-mini-4k-instruct": 3.82,
    "Qwen/Qwen2.5-1.5B-Instruct": 1.54,
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": 1.71,
    "HuggingFaceTB/SmolLM3-3B": 3.08,
    "allenai/OLMo-2-0425-1B-Instruct": 1.48,
    "meta-llama/Llama-3.2-1B-Instruct": 1.24,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_the_published_ones(name: str) -> None:
    shape = llm_shape(name, public_models()[name]["config"])
    assert shape.parameters / 1e9 == pytest.approx(PUBLISHED[name], abs=0.006)


@pytest.mark.parametrize("side", [224, 518])
def test_image_tokens_follow_from_the_side(side: int) -> None:
    config = public_models()["facebook/dinov2-large"]["config"]
    shape = encoder_shape("d", config, side)
    assert shape.image_tokens == (side // 14) ** 2
    assert shape.sequence == shape.image_tokens + 1
    assert shape.parameters / 1e6 == pytest.approx(304, rel=0.01)


def test_what_a_text_tower_leaves_out_is_the_default() -> None:
    """google/siglip-so400m lists few sizes; a base SigLIP may list none."""
    shape = encoder_shape("s", {"model_type": "siglip", "vision_config": {}}, None)
    assert (shape.width, shape.layers, shape.side, shape.image_tokens) == (768, 12, 224, 196)


def test_an_unknown_architecture_is_refused_as_by_a_run() -> None:
    with pytest.raises(ModelError, match="'swin' is not supported as a vision encoder"):
        encoder_shape("s", {"model_type": "swin"}, None)
    with pytest.raises(ModelError, match="'mamba' is not supported as a LLM"):
        llm_shape("m", {"model_type": "mamba", "num_attention_heads": 1})


@pytest.mark.slow
def test_counts_are_those_of_a_real_pair(zoo: Path, cpu: torch.device) -> None:
    """LoRA, projector, LLM's matrices and head, as training counts them."""
    import json

    from mordal_optuna.alignment.work import Work
    from mordal_optuna.models.assemble import assemble
    from mordal_optuna.pool import ModelSource

    sources = [
        ModelSource(path.name, str(path))
        for path in (zoo / "encoders" / "clip-t", zoo / "llms" / "llama-t")
    ]
    lora = LoraSettings(rank=4, alpha=8)
    vlm = assemble(*sources, lora=lora, precision="fp32", seed=0, device=cpu)
    real = Work.per_token(vlm)

    def config(place: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((zoo / place / "config.json").read_text())
        return content

    llm = llm_shape("m", config("llms/llama-t"))
    encoder = encoder_shape("v", config("encoders/clip-t"), None)
    assert (llm.linear, llm.lora(4)) == (real.frozen, real.lora)
    assert encoder.image_tokens == real.image_tokens
    grown = real.head - llm.head  # the image token may need a row of its own
    assert grown in (0, llm.hidden)
