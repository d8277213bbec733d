"""Joining parts: every family, nothing lost, nothing but projector and LoRA trained."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest
import torch
from PIL import Image
from transformers import AutoModelForCausalLM

from mordal_optuna.config import LoraSettings
from mordal_optuna.models.assemble import Vlm, assemble
from tests import tiny
from tests.families import random_encoder, random_llm

if TYPE_CHECKING:
    from pathlib import Path

    from mordal_optuna.pool import ModelSource

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
    """Same seed, same weights; the global random generator neither matters nor changes."""
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


@pytest.mark.slow
def test_the_llm_is_in_memory_once(tmp_path: Path) -> None:
    """Loading and joining need the weights, and not another half of them, at their peak."""
    code = textwrap.dedent("""
        import resource, sys, torch
        from mordal_optuna.models.assemble import assemble
        from mordal_optuna.config import LoraSettings
        from mordal_optuna.pool import ModelSource
        import transformers.models.llama.modeling_llama, transformers.models.clip.modeling_clip
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        vlm = assemble(
            ModelSource("e", sys.argv[1]), ModelSource("m", sys.argv[2]), lora=LoraSettings(),
            precision="bf16", seed=0, device=torch.device("cpu"),
        )
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        own = sum(p.numel() * p.element_size() for p in vlm.model.parameters())
        print((after - before) * 1024 / own)
    """)
    encoder = random_encoder(tmp_path, "clip")
    llm = random_llm(tmp_path, "llama", hidden_size=1024, intermediate_size=8192)
    model = AutoModelForCausalLM.from_pretrained(llm.location, dtype=torch.bfloat16)
    model.save_pretrained(llm.location)
    done = subprocess.run(
        [sys.executable, "-c", code, encoder.location, llm.location],
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(done.stdout) < 1.5
