"""Encoders at another image size give what transformers' own interpolation gives."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
import transformers as tf

from mordal_optuna.errors import ModelError
from mordal_optuna.models.resizing import interpolated
from mordal_optuna.models.towers import load_encoder
from tests.families import random_encoder

if TYPE_CHECKING:
    from pathlib import Path

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["clip", "siglip", "vit", "dinov2", "internvit"])
def test_features_are_those_of_transformers_own_interpolation(tmp_path: Path, name: str) -> None:
    """The position table, interpolated once, or by the encoder itself."""
    source = random_encoder(tmp_path, name)
    encoder = load_encoder(replace(source, image_size=56), "fp32", CPU)
    images = torch.rand(2, 3, 56, 56, generator=torch.Generator().manual_seed(0))
    asked = {} if name in ("dinov2", "internvit") else {"interpolate_pos_encoding": True}
    plain = tf.AutoModel.from_pretrained(source.location)
    plain = getattr(plain, "vision_model", plain).eval()
    with torch.no_grad():
        hidden = plain(images, output_hidden_states=True, **asked).hidden_states[-2]
        expected = hidden[:, 1:] if encoder.family.class_token else hidden
        assert torch.allclose(encoder.features(images), expected, atol=1e-5)


def test_an_interpolated_table_keeps_its_first_positions_and_a_flat_one_stays_flat() -> None:
    table = torch.cat([torch.full((1, 2), 5.0), torch.ones(16, 2)])
    assert torch.allclose(
        interpolated(table, 6, first=1), torch.cat([table[:1], torch.ones(36, 2)])
    )
    assert torch.equal(interpolated(table, 4, first=1), table)
    assert interpolated(table.bfloat16(), 6, first=1).dtype == torch.bfloat16


def test_a_size_below_one_patch_is_refused(tmp_path: Path) -> None:
    source = replace(random_encoder(tmp_path, "dinov2"), image_size=4)
    with pytest.raises(ModelError, match="got image_size 4; the least is one patch of 8 pixels"):
        load_encoder(source, "fp32", CPU)
