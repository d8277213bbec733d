"""Every family: loaded, joined, trained a step, generating, with nothing lost on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from PIL import Image
from transformers import AutoModelForCausalLM

from mordal_optuna.alignment.assemble import Vlm, assemble, load_encoder
from mordal_optuna.config import LoraSettings
from tests.families import LLMS, VISION, random_encoder, random_llm

if TYPE_CHECKING:
    from pathlib import Path

    from mordal_optuna.pool import ModelSource

CPU = torch.device("cpu")


def joined(encoder: ModelSource, llm: ModelSource) -> Vlm:
    lora = LoraSettings(rank=2, alpha=4)
    return assemble(encoder, llm, lora=lora, precision="fp32", seed=0, device=CPU)


def train_a_step(vlm: Vlm) -> None:
    """One step moves every trained part, and nothing else."""
    inputs = vlm.processor(
        text="<image>\nwhat is this ?",
        images=Image.new("RGB", (50, 40), "red"),
        return_tensors="pt",
    )
    frozen = {n: p.clone() for n, p in vlm.model.named_parameters() if not p.requires_grad}
    before = {n: p.clone() for n, p in vlm.trainable().items()}
    optimizer = torch.optim.AdamW(vlm.trainable().values(), lr=0.01)
    for _ in range(2):  # LoRA's A moves only once its B is not 0
        optimizer.zero_grad()
        vlm.model(**inputs, labels=inputs["input_ids"]).loss.backward()
        optimizer.step()
    assert all(not torch.equal(before[n], p) for n, p in vlm.trainable().items())
    assert all(torch.equal(frozen[n], p) for n, p in vlm.model.named_parameters() if n in frozen)
    tokens = {"max_new_tokens": 4, "do_sample": False}
    cached = vlm.model.generate(**inputs, **tokens)
    assert torch.equal(cached, vlm.model.generate(**inputs, **tokens, use_cache=False))


@pytest.mark.parametrize("name", LLMS)
def test_every_llm_keeps_its_logits_trains_and_generates(tmp_path: Path, name: str) -> None:
    """Text gives the LLM's own logits, bit for bit: no cap, scale, norm or head is lost."""
    source = random_llm(tmp_path, name)
    alone = AutoModelForCausalLM.from_pretrained(source.location)
    vlm = joined(random_encoder(tmp_path, "clip"), source)
    ids = torch.tensor([[3, 4, 5, 6]])
    with torch.no_grad():
        expected = alone(input_ids=ids).logits
        assert torch.equal(vlm.model(input_ids=ids).logits[..., : expected.shape[-1]], expected)
    train_a_step(vlm)


@pytest.mark.parametrize("name", VISION)
def test_every_encoder_gives_its_patches_and_nothing_else(tmp_path: Path, name: str) -> None:
    source = random_encoder(tmp_path, name)
    vlm = joined(source, random_llm(tmp_path, "llama"))
    assert vlm.image_tokens == VISION[name][2]
    train_a_step(vlm)


@pytest.mark.parametrize("name", ["dinov2-registers", "dinov3"])
def test_registers_are_not_among_the_features(tmp_path: Path, name: str) -> None:
    """Four tokens after the first are left out; the others are the model's own."""
    source = random_encoder(tmp_path, name)
    encoder = load_encoder(source, "fp32", CPU)
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        found = encoder.features(pixels)
        encoder.tower._forward_hooks.clear()
        whole = encoder.tower(pixels, output_hidden_states=True).hidden_states[-2]
    assert torch.equal(found, whole[:, 5:])


def test_a_feature_map_becomes_tokens_row_by_row(tmp_path: Path) -> None:
    encoder = load_encoder(random_encoder(tmp_path, "convnext"), "fp32", CPU)
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        found = encoder.features(pixels)
        encoder.tower._forward_hooks.clear()
        maps = encoder.tower(pixels, output_hidden_states=True).hidden_states[-1]
    assert torch.equal(found[0, 1], maps[0, :, 0, 1])
    assert found.shape == (1, 4, 32)
