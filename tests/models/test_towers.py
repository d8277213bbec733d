"""Towers: patch features of a layer, without CLS and register tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from transformers import AutoModel

from mordal_optuna.models.towers import load_encoder
from tests import tiny
from tests.families import random_encoder

if TYPE_CHECKING:
    from pathlib import Path

CPU = torch.device("cpu")


def test_the_tower_is_the_checkpoints_own(tmp_path: Path) -> None:
    source = tiny.encoder(tmp_path, "siglip")
    whole = AutoModel.from_pretrained(source.location)
    tower = load_encoder(source, "fp32", torch.device("cpu")).tower
    pixels = torch.randn(2, 3, 32, 32)
    expected = whole.vision_model(pixels, output_hidden_states=True).hidden_states[-2]
    assert torch.equal(tower(pixels, output_hidden_states=True).hidden_states[-2], expected)


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
