"""Names of tensors and keys of an export, as readers other than this transformers expect them.

vLLM and llama.cpp are not run here: the names are those of published LLaVA-1.5 checkpoints, which
both read, and llama.cpp's own table of names is in the package `gguf`.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors import safe_open

from mordal_optuna.config import LoraSettings
from mordal_optuna.models.assemble import assemble
from mordal_optuna.models.export import ModelCard, export
from tests.families import LLMS, random_encoder, random_llm

if TYPE_CHECKING:
    from pathlib import Path

# What llama.cpp's converter calls the architecture in its table, by the LLM's own class.
ARCHITECTURES = {
    "LlamaForCausalLM": "LLAMA",
    "MistralForCausalLM": "LLAMA",
    "Qwen2ForCausalLM": "QWEN2",
    "Qwen3ForCausalLM": "QWEN3",
    "SmolLM3ForCausalLM": "SMOLLM3",
    "GemmaForCausalLM": "GEMMA",
    "Gemma2ForCausalLM": "GEMMA2",
    "Gemma3ForCausalLM": "GEMMA3",
    "Phi3ForCausalLM": "PHI3",
    "Olmo2ForCausalLM": "OLMO2",
    "StableLmForCausalLM": "STABLELM",
    "GraniteForCausalLM": "GRANITE",
    "GPTNeoXForCausalLM": "GPTNEOX",
}
# LLMs whose exports it cannot convert, as docs/exporting.md lists them.
NOT_CONVERTED = {"gemma2", "granite", "gpt-neox", "opt"}


def exported(folder: Path, encoder: str, llm: str) -> tuple[dict[str, Any], list[str]]:
    """Configuration and names of tensors of an export."""
    parts = random_encoder(folder, encoder), random_llm(folder, llm)
    lora = LoraSettings(rank=2, alpha=4)
    vlm = assemble(*parts, lora=lora, precision="fp32", seed=0, device=torch.device("cpu"))
    export(vlm, folder / "vlm", ModelCard(*parts, 16, "test data", "digest", 0, {}))
    with safe_open(folder / "vlm" / "model.safetensors", "pt") as weights:
        names = sorted(weights.keys())
    return json.loads((folder / "vlm" / "config.json").read_text(encoding="utf-8")), names


@pytest.mark.parametrize("encoder", ["clip", "siglip"])
def test_tensors_have_the_names_of_published_llava_checkpoints(
    tmp_path: Path, encoder: str
) -> None:
    """The tower's level `vision_model` too, without which transformers 4 and vLLM skip it."""
    config, names = exported(tmp_path, encoder, "llama")
    beginnings = (
        r"language_model\.model\.(embed_tokens|layers\.\d+\.\w+|norm)\.",
        r"language_model\.lm_head\.weight$",
        r"multi_modal_projector\.linear_[12]\.(weight|bias)$",
        r"vision_tower\.vision_model\.(embeddings|encoder\.layers\.\d+|pre_layrnorm"
        r"|post_layernorm|head)\.",
    )
    assert all(any(re.match(start, name) for start in beginnings) for name in names), names
    assert all(any(re.match(start, name) for name in names) for start in beginnings)
    assert config["architectures"] == ["LlavaForConditionalGeneration"]
    assert config["model_type"] == "llava"
    assert config["vision_config"]["model_type"] == f"{encoder}_vision_model"
    assert config["text_config"]["architectures"] == ["LlamaForCausalLM"]
    assert config["projector_hidden_act"] == "gelu"
    assert config["multimodal_projector_bias"] is True
    assert config["vision_feature_layer"] == -2
    kept = {"clip": "default", "siglip": "full"}[encoder]
    assert config["vision_feature_select_strategy"] == kept


@pytest.mark.parametrize("name", LLMS)
def test_llama_cpp_knows_the_tensors_of_an_llm_or_the_docs_say_so(
    tmp_path: Path, name: str
) -> None:
    """Its converter skips what belongs to the encoder, and looks the rest up in its table."""
    gguf = pytest.importorskip("gguf", reason="needs gguf, of the extra `test`")
    config, names = exported(tmp_path, "clip", name)
    (architecture,) = config["text_config"]["architectures"]
    unknown = names
    if architecture in ARCHITECTURES:
        kind = gguf.MODEL_ARCH[ARCHITECTURES[architecture]]
        table = gguf.get_tensor_name_map(kind, config["text_config"]["num_hidden_layers"])
        text = [
            tensor.replace("language_model.", "")
            for tensor in names
            if "vision_" not in tensor and "projector." not in tensor
        ]
        assert text
        unknown = [t for t in text if not table.get_name(t, try_suffixes=(".weight", ".bias"))]
    assert bool(unknown) == (name in NOT_CONVERTED), unknown


def test_llama_cpp_knows_the_tensors_of_the_encoder(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf", reason="needs gguf, of the extra `test`")
    config, names = exported(tmp_path, "clip", "llama")
    layers = config["vision_config"]["num_hidden_layers"]
    table = gguf.get_tensor_name_map(gguf.MODEL_ARCH.MMPROJ, layers)
    tower = [name for name in names if name.startswith("vision_tower.")]
    assert tower
    assert all(table.get_name(name, try_suffixes=(".weight", ".bias")) for name in tower)
