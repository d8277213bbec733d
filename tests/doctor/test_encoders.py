"""Checks of encoders: every family passes; a wrong layer, size or weight is found."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from PIL import Image

from mordal_optuna.doctor.encoders import ENCODER_CHECKS, OpenEncoder, open_encoder
from mordal_optuna.doctor.findings import Notebook
from mordal_optuna.models.families import vision_family
from mordal_optuna.planning.shapes import EncoderShape
from tests.families import VISION, random_encoder
from tests.tiny import encoder

if TYPE_CHECKING:
    from pathlib import Path

COLORS = ("red", "green", "blue")


def images(count: int = 3) -> tuple[Image.Image, ...]:
    return tuple(Image.new("RGB", (40, 30), color) for color in COLORS[:count])


def opened(folder: Path, name: str = "clip", count: int = 3) -> OpenEncoder:
    source = random_encoder(folder, name)
    found, verdict = open_encoder(source, "fp32", torch.device("cpu"), images(count), None)
    assert verdict.outcome == "ok"
    return found


def outcomes(checked: OpenEncoder) -> dict[str, tuple[str, str]]:
    notes = Notebook()
    notes.checked("e", ENCODER_CHECKS, checked)
    return {f.check: (f.verdict.outcome, f.verdict.text) for f in notes.findings}


def promise(tokens: int, width: int) -> EncoderShape:
    return EncoderShape("clip", width, 3, 32, 8, tokens, tokens + 1, 0, 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("name", VISION)
def test_every_family_passes(tmp_path: Path, name: str) -> None:
    tokens = VISION[name][2]
    found = opened(tmp_path, name)
    checked = replace(found, promised=promise(tokens, found.features.shape[2]))
    assert {check: outcome for check, (outcome, _) in outcomes(checked).items()} == {
        "layer": "ok",
        "tokens": "ok",
        "numbers": "ok",
        "images": "ok",
    }


@pytest.mark.parametrize(
    ("layer", "outcome", "sentence"),
    [
        (-2, "ok", "hidden state 2 of 3 is read; a change of one patch reaches 16 of 16"),
        (0, "failed", "hidden state 0 of 3 is read; .* reaches 1 of 16 .* single patches"),
        (-4, "failed", "hidden state 0 of 3 is read; .* reaches 1 of 16 .* single patches"),
        (1, "warning", "hidden state 1 of 3 .* lower half"),
        (4, "failed", "hidden state 4 is read, which it does not have: they are 0 to 3"),
        (-5, "failed", "hidden state -5 is read, which it does not have"),
    ],
)
def test_a_wrong_layer_is_found(tmp_path: Path, layer: int, outcome: str, sentence: str) -> None:
    found = opened(tmp_path)
    found.encoder.family = replace(found.encoder.family, feature_layer=layer)
    layered = outcomes(found)["layer"]
    assert layered[0] == outcome
    with pytest.raises(AssertionError, match=sentence):
        raise AssertionError(layered[1])


def test_a_tower_of_one_layer_is_a_warning(tmp_path: Path) -> None:
    """Its layer before the last one holds single patches; no option of a study changes that."""
    found = opened(tmp_path)
    del found.encoder.tower.encoder.layers[1:]
    found.encoder.tower.config.num_hidden_layers = 1
    assert outcomes(found)["layer"][0] == "warning"


def test_other_sizes_than_promised_are_found(tmp_path: Path) -> None:
    found = opened(tmp_path)
    for wanted in (promise(9, 32), promise(16, 64)):
        outcome, text = outcomes(replace(found, promised=wanted))["tokens"]
        assert outcome == "failed"
        assert "16 tokens of width 32 an image; its configuration promises" in text
    assert outcomes(found)["tokens"][0] == "warning"


def test_numbers_that_are_not_finite_are_found(tmp_path: Path) -> None:
    found = opened(tmp_path)
    with torch.no_grad():
        next(found.encoder.tower.parameters()).fill_(float("nan"))
    checked = outcomes(found)
    assert checked["numbers"][0] == "failed"
    assert "fp32" in checked["numbers"][1]
    assert checked["images"][0] == "failed"


def test_images_that_look_alike_to_an_encoder_are_found(tmp_path: Path) -> None:
    """As with a patch embedding that was lost."""
    found = opened(tmp_path)
    with torch.no_grad():
        found.encoder.tower.embeddings.patch_embedding.weight.zero_()
    assert outcomes(found)["images"][0] == "failed"


def test_one_image_cannot_be_compared(tmp_path: Path) -> None:
    assert outcomes(opened(tmp_path, count=1))["images"][0] == "skipped"


def test_the_layer_of_a_pretrained_encoder_is_that_of_its_family(tmp_path: Path) -> None:
    source = encoder(tmp_path, "siglip")
    found, verdict = open_encoder(source, "bf16", torch.device("cpu"), images(), None)
    family = vision_family("siglip", found.encoder.tower.config)
    assert found.encoder.family == family
    assert verdict.text.startswith("siglip_vision_model, bf16, 0.0")
    assert outcomes(found)["layer"][0] == "ok"
