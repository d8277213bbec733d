"""Loading: what is missing, broken or not supported is named; timm's image processors."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoImageProcessor, AutoModelForCausalLM, AutoTokenizer

from mordal_optuna.errors import ModelError
from mordal_optuna.models import loading
from mordal_optuna.models.loading import check_model, load_tokenizer, load_weights
from mordal_optuna.models.towers import load_encoder
from mordal_optuna.pool import ModelSource
from tests import tiny
from tests.families import random_encoder

if TYPE_CHECKING:
    from pathlib import Path

CPU = torch.device("cpu")


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
    source = tiny.llm(tmp_path, "llama")
    path = tmp_path / "llama" / "model.safetensors"
    weights = load_file(path)
    weights.pop("model.layers.1.mlp.up_proj.weight")
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 1 weights, such as .*up_proj"):
        load_weights(source, AutoModelForCausalLM, "fp32", CPU)


@pytest.mark.parametrize(
    ("attention", "needed"),
    [
        ("flash_attention_2", "the package flash-attn and a GPU"),
        ("flash_attention_3", "the package flash-attn-3 and a GPU"),
        ("flex_attention", "a GPU"),
    ],
)
def test_attention_that_cannot_be_had_is_refused_with_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, attention: Any, needed: str
) -> None:
    """Before the weights are read: the folder need not exist."""
    there = loading._NEEDED[attention]
    monkeypatch.setitem(loading._NEEDED, attention, (lambda **_: False, there[1]))
    with pytest.raises(ModelError, match=f"got {attention}, which needs {needed}; auto, sdpa"):
        load_weights(ModelSource("x", "none"), object, "fp32", CPU, attention=attention)


def test_a_tokenizer_pads_with_eos_if_it_has_no_pad_token_and_needs_an_eos_token(
    tmp_path: Path,
) -> None:
    source = tiny.llm(tmp_path, "llama")
    tokenizer = AutoTokenizer.from_pretrained(source.location)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(source.location)
    loaded = load_tokenizer(source)
    assert loaded.pad_token == loaded.eos_token == tokenizer.eos_token
    tokenizer.eos_token = None
    tokenizer.save_pretrained(source.location)
    with pytest.raises(ModelError, match="has no eos token"):
        load_tokenizer(source)


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
