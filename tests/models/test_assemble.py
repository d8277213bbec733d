"""Joining parts: every family, nothing lost, nothing but projector and LoRA trained."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import torch
from PIL import Image
from transformers import AutoModel, AutoModelForCausalLM

from mordal_optuna.config import LoraSettings
from mordal_optuna.errors import ModelError
from mordal_optuna.models.assemble import Vlm, assemble
from mordal_optuna.models.loading import check_model
from mordal_optuna.models.towers import load_encoder
from mordal_optuna.pool import ModelSource
from tests import tiny

if TYPE_CHECKING:
    from pathlib import Path

LORA = LoraSettings(rank=4, alpha=8)


def joined(
    encoder: ModelSource, llm: ModelSource, *, lora: LoraSettings | None = LORA, seed: int = 0
) -> Vlm:
    return assemble(
        encoder, llm, lora=lora, precision="fp32", seed=seed, device=torch.device("cpu")
    )


@pytest.mark.parametrize("family", tiny.ENCODERS)
def test_every_encoder_family_gives_as_many_features_as_placeholders(
    tmp_path: Path, family: str
) -> None:
    """32 pixels in patches of 8 are 16 features, whatever CLS tokens a family has."""
    vlm = joined(tiny.encoder(tmp_path, family), tiny.llm(tmp_path, "llama"))
    assert vlm.image_tokens == 16
    inputs = vlm.processor(
        text="<image>\nWhat?", images=Image.new("RGB", (50, 40), "red"), return_tensors="pt"
    )
    assert (inputs["input_ids"] == vlm.model.config.image_token_index).sum() == 16
    output = vlm.model.generate(**inputs, max_new_tokens=3, do_sample=False)
    assert output.shape[1] > inputs["input_ids"].shape[1]


@pytest.mark.parametrize("family", tiny.LLMS)
def test_text_goes_through_the_llm_unchanged(tmp_path: Path, family: str) -> None:
    """Logits of text are those of the LLM alone, bit for bit: no head, norm or scale is lost."""
    source = tiny.llm(tmp_path, family)
    alone = AutoModelForCausalLM.from_pretrained(source.location)
    vlm = joined(tiny.encoder(tmp_path, "clip"), source)
    ids = torch.tensor([[5, 9, 17, 30, 12]])
    with torch.no_grad():
        expected = alone(input_ids=ids).logits
        found = vlm.model(input_ids=ids).logits[..., : expected.shape[-1]]
    assert torch.equal(found, expected)


def test_the_tower_is_the_checkpoints_own(tmp_path: Path) -> None:
    source = tiny.encoder(tmp_path, "siglip")
    whole = AutoModel.from_pretrained(source.location)
    tower = load_encoder(source, "fp32", torch.device("cpu")).tower
    pixels = torch.randn(2, 3, 32, 32)
    expected = whole.vision_model(pixels, output_hidden_states=True).hidden_states[-2]
    assert torch.equal(tower(pixels, output_hidden_states=True).hidden_states[-2], expected)


def test_only_projector_and_lora_are_trained(tmp_path: Path) -> None:
    encoder, llm = tiny.encoder(tmp_path, "clip"), tiny.llm(tmp_path, "llama")
    names = list(joined(encoder, llm).trainable())
    assert any("multi_modal_projector" in name for name in names)
    assert sum("lora_" in name for name in names) == 2 * 7 * 2  # A and B, 7 layers, 2 blocks
    assert not any("vision_tower" in name for name in names)
    bare = joined(encoder, llm, lora=None).trainable()
    assert len(bare) == 4
    assert all("multi_modal_projector" in name for name in bare)


def test_the_seed_alone_decides_the_start(tmp_path: Path) -> None:
    """Same seed, same weights, whatever the global generator holds; and it is left alone."""
    encoder, llm = tiny.encoder(tmp_path, "clip"), tiny.llm(tmp_path, "qwen2")
    torch.manual_seed(1)
    first = {n: p.clone() for n, p in joined(encoder, llm).trainable().items()}
    before = torch.random.get_rng_state()
    again = joined(encoder, llm).trainable()
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(first[name], again[name]) for name in first)
    other = joined(encoder, llm, seed=1).trainable()
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_bf16_keeps_trainable_weights_in_float32(tmp_path: Path) -> None:
    encoder, llm = tiny.encoder(tmp_path, "clip"), tiny.llm(tmp_path, "llama")
    vlm = assemble(encoder, llm, lora=LORA, precision="bf16", seed=0, device=torch.device("cpu"))
    assert {p.dtype for p in vlm.trainable().values()} == {torch.float32}
    assert vlm.model.lm_head.weight.dtype == torch.bfloat16
    inputs = vlm.processor(
        text="<image>\nWhat?", images=Image.new("RGB", (32, 32)), return_tensors="pt"
    )
    inputs["pixel_values"] = inputs["pixel_values"].bfloat16()
    assert torch.isfinite(vlm.model(**inputs).logits).all()


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"model 'x': cannot be loaded from .*hub id"):
        check_model(ModelSource("x", str(tmp_path / "none")), "llm")


def test_an_unsupported_architecture_is_refused_with_what_is_supported(tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    refusal = "'bert' is not supported as a LLM; supported are gemma, .*llama"
    with pytest.raises(ModelError, match=refusal):
        check_model(ModelSource("odd", str(folder)), "llm")
    with pytest.raises(ModelError, match="'bert' is not supported as a vision encoder"):
        check_model(ModelSource("odd", str(folder)), "vision_encoder")


def test_a_checkpoint_that_lacks_weights_is_refused(tmp_path: Path) -> None:
    """Otherwise transformers would fill them with random numbers and only warn."""
    from safetensors.torch import load_file, save_file

    source = tiny.llm(tmp_path, "llama")
    path = tmp_path / "llama" / "model.safetensors"
    weights = load_file(path)
    weights.pop("model.layers.1.mlp.up_proj.weight")
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 1 weights, such as .*up_proj"):
        joined(tiny.encoder(tmp_path, "clip"), source)
