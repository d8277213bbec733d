"""Every family: loaded, joined, trained a step, generating, with nothing lost on the way."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from PIL import Image
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    OPTConfig,
)

from mordal_optuna.config import LoraSettings
from mordal_optuna.errors import ModelError
from mordal_optuna.models.assemble import Vlm, assemble
from mordal_optuna.models.export import ModelCard, export
from mordal_optuna.models.families import LLM_FAMILIES, VISION_FAMILIES
from mordal_optuna.models.loading import check_model
from mordal_optuna.pool import ModelSource
from tests.families import LLMS, VISION, random_encoder, random_llm
from tests.foreign_encoders import OPEN_CLIP, open_clip

if TYPE_CHECKING:
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
    needing = ("dinov2-registers", "dinov3", "dinov3-convnext", "convnext")
    assert bool(needs) == (name in needing or name.startswith("timm-"))


@pytest.mark.parametrize("name", OPEN_CLIP)
def test_open_clips_encoders_train_and_are_exported(tmp_path: Path, name: str) -> None:
    """The export of its own ViT is plain LLaVA, which needs neither open_clip nor this package."""
    pytest.importorskip("open_clip", reason="needs open-clip-torch, of the extra `test`")
    parts = open_clip(tmp_path, name)[0], random_llm(tmp_path, "llama")
    vlm = joined(*parts)
    assert vlm.image_tokens == (196 if name == "open-clip-timm" else 16)
    train_a_step(vlm)
    needs = save_and_reload(vlm, tmp_path / "export", parts)
    assert bool(needs) == (name == "open-clip-timm")


def test_every_encoder_family_is_in_the_table() -> None:
    table = (Path(__file__).parents[2] / "docs" / "supported-encoders.md").read_text()
    for family in VISION_FAMILIES:
        names = [f"{start}*" for start in family.architectures] or family.model_types
        assert all(f"`{name}`" in table for name in names), family


def test_every_llm_family_is_in_the_table() -> None:
    """In a row of its own, with a value in every column."""
    text = (Path(__file__).parents[2] / "docs" / "supported-models.md").read_text()
    table = text.split("\n\n|")[1].split("\n\n")[0].replace("\\|", "")
    rows = [row.strip("|").split("|") for row in table.splitlines()[2:]]
    assert all(len(row) == 6 and all(cell.strip() for cell in row) for row in rows)
    listed = " ".join(row[0] for row in rows)
    for family in LLM_FAMILIES:
        assert all(f"`{name}`" in listed for name in family.model_types), family


def test_an_llm_with_narrow_embeddings_is_refused(tmp_path: Path) -> None:
    """As in OPT-350m: projected features must have the width of embeddings."""
    folder = tmp_path / "opt-350m"
    OPTConfig(hidden_size=32, word_embed_proj_dim=16).save_pretrained(folder)
    with pytest.raises(ModelError, match="embeddings of width 16 and hidden states of width 32"):
        check_model(ModelSource("opt-350m", str(folder)), "llm")
