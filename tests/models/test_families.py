"""Every family: loaded, joined, trained a step, generating, with nothing lost on the way."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest
import torch
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    OPTConfig,
)

from mordal_optuna.config import LoraSettings
from mordal_optuna.errors import ModelError
from mordal_optuna.models.assemble import Vlm, assemble
from mordal_optuna.models.export import ModelCard, export
from mordal_optuna.models.loading import check_model
from mordal_optuna.models.towers import load_encoder
from mordal_optuna.pool import ModelSource
from tests.families import LLMS, VISION, random_encoder, random_llm

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import BatchFeature, ProcessorMixin

CPU = torch.device("cpu")


def joined(encoder: ModelSource, llm: ModelSource) -> Vlm:
    lora = LoraSettings(rank=2, alpha=4)
    return assemble(encoder, llm, lora=lora, precision="fp32", seed=0, device=CPU)


def question(processor: ProcessorMixin) -> BatchFeature:
    picture = Image.new("RGB", (50, 40), "red")
    return processor(text="<image>\nwhat is this ?", images=picture, return_tensors="pt")


def train_a_step(vlm: Vlm) -> None:
    """One step moves every trained part, and nothing else."""
    inputs = question(vlm.processor)
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


def save_and_reload(vlm: Vlm, folder: Path, parts: tuple[ModelSource, ModelSource]) -> list[str]:
    """The exported folder gives the logits of the live model, by transformers alone."""
    vlm.model.eval()
    with torch.no_grad():
        trained = vlm.model(**question(vlm.processor)).logits
    needs = export(vlm, folder, ModelCard(*parts, 16, "test data", "digest", 0, {}))
    with torch.no_grad():
        merged = vlm.model(**question(vlm.processor)).logits
    assert torch.allclose(trained, merged, atol=1e-5)
    again = AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=bool(needs))
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=bool(needs))
    with torch.no_grad():
        assert torch.equal(again.eval()(**question(processor)).logits, merged)
    return needs


@pytest.mark.parametrize("name", LLMS)
def test_every_llm_keeps_its_logits_trains_and_generates(tmp_path: Path, name: str) -> None:
    """Text gives the LLM's own logits, bit for bit: no cap, scale, norm or head is lost."""
    parts = random_encoder(tmp_path, "clip"), random_llm(tmp_path, name)
    alone = AutoModelForCausalLM.from_pretrained(parts[1].location)
    vlm = joined(*parts)
    layers = vlm.model.model.language_model.get_submodule(vlm.llm_family.layers)
    assert len(layers) == 2
    ids = torch.tensor([[3, 4, 5, 6]])
    with torch.no_grad():
        expected = alone(input_ids=ids).logits
        assert torch.equal(vlm.model(input_ids=ids).logits[..., : expected.shape[-1]], expected)
    train_a_step(vlm)
    needs = save_and_reload(vlm, tmp_path / "export", parts)
    assert bool(needs) == (name in ("gemma2", "granite"))


@pytest.mark.parametrize("name", VISION)
def test_every_encoder_gives_its_patches_and_nothing_else(tmp_path: Path, name: str) -> None:
    parts = random_encoder(tmp_path, name), random_llm(tmp_path, "llama")
    vlm = joined(*parts)
    assert vlm.image_tokens == VISION[name][2]
    train_a_step(vlm)
    needs = save_and_reload(vlm, tmp_path / "export", parts)
    plain = ("clip", "siglip", "vit", "dinov2", "aimv2", "internvit", "internvl")
    assert bool(needs) == (name not in plain)


def test_timms_pictures_are_read_as_timm_reads_them(tmp_path: Path) -> None:
    """The processor that is exported makes the pixels of timm's own transform.

    Where an odd number of pixels is cropped, timm rounds to the other side.
    """
    source = random_encoder(tmp_path, "timm-eva02")
    own = AutoImageProcessor.from_pretrained(source.location)
    noise = torch.rand(70, 98, 3, generator=torch.manual_seed(0)).mul(255).byte().numpy()
    picture = Image.fromarray(noise)
    expected = own(picture, return_tensors="pt")["pixel_values"]
    found = load_encoder(source, "fp32", CPU).pixels([picture])
    assert found.shape == expected.shape
    # One of 255 levels; the two resize with different code.
    assert float((found - expected).abs().max()) < 2 / 255 / min(own.data_config["std"])


def test_an_llm_with_narrow_embeddings_is_refused(tmp_path: Path) -> None:
    """OPT-350m's way: features of the hidden width cannot stand where embeddings stand."""
    folder = tmp_path / "opt-350m"
    OPTConfig(hidden_size=32, word_embed_proj_dim=16).save_pretrained(folder)
    with pytest.raises(ModelError, match="embeddings of width 16 and hidden states of width 32"):
        check_model(ModelSource("opt-350m", str(folder)), "llm")


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
