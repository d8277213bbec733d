"""Pixels: every candidate sees the whole page, and all parts of the package make the same ones."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
import transformers as tf
from PIL import Image

from mordal_optuna.errors import ModelError
from mordal_optuna.models.assemble import assemble
from mordal_optuna.models.export import ModelCard, export
from mordal_optuna.models.loading import load_image_processor
from mordal_optuna.progress import Silent
from mordal_optuna.representation.features import llm_features
from tests.families import VISION, random_encoder, random_llm

if TYPE_CHECKING:
    from pathlib import Path

    from mordal_optuna.models.assemble import Vlm
    from mordal_optuna.pool import ModelSource

CPU = torch.device("cpu")
# Image processors as on the hub: openai/clip-vit-large-patch14, facebook/dinov2-large and
# google/siglip-so400m-patch14-384 (their preprocessor_config.json), at 32 pixels.
_HUB = {
    "clip": tf.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32),
    "dinov2": tf.BitImageProcessor(
        size={"shortest_edge": 37},  # 256 to 224 pixels
        crop_size={"height": 32, "width": 32},
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    ),
    "siglip": tf.SiglipImageProcessor(
        size={"height": 32, "width": 32}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    ),
}


def encoder(folder: Path, name: str, **changed: object) -> ModelSource:
    """An encoder with the hub's image processor."""
    source = random_encoder(folder, name)
    _HUB[name].save_pretrained(source.location)
    return replace(source, image_aspect="pad", **changed)


def page(mark: bool) -> Image.Image:
    """A grey page, twice as wide as high, with or without a red stripe at its left border."""
    image = Image.new("RGB", (128, 64), (90, 90, 90))
    if mark:
        image.paste((255, 0, 0), (0, 0, 8, 64))
    return image


def pixels(source: ModelSource, image: Image.Image) -> torch.Tensor:
    return load_image_processor(source)(images=[image], return_tensors="pt")["pixel_values"][0]


@pytest.mark.parametrize("name", _HUB)
def test_a_mark_at_the_border_is_seen(tmp_path: Path, name: str) -> None:
    source = encoder(tmp_path, name)
    difference = (pixels(source, page(True)) - pixels(source, page(False))).abs().amax(0)
    assert difference.shape == (32, 32)
    assert difference[16, 0] > 0.5
    own = replace(source, image_aspect="own")
    cut = (pixels(own, page(True)) - pixels(own, page(False))).abs().amax() < 0.01
    assert cut == (name != "siglip")  # which squashes the page


@pytest.mark.parametrize("name", _HUB)
def test_the_page_keeps_its_proportions_between_bars_of_the_mean_colour(
    tmp_path: Path, name: str
) -> None:
    """As in LLaVA-1.5, whose bars have the mean colour, rounded down to whole levels."""
    source = encoder(tmp_path, name)
    values = pixels(source, page(False))
    processor = _HUB[name]
    mean, std = (np.array(v) for v in (processor.image_mean, processor.image_std))
    bar = ((mean * 255).astype(int) / 255 - mean) / std
    grey = (90 / 255 - mean) / std
    for rows, expected in ((slice(0, 6), bar), (slice(10, 22), grey), (slice(26, 32), bar)):
        found = values[:, rows].flatten(1)
        assert torch.allclose(found, torch.tensor(expected)[:, None].float(), atol=1e-4)


@pytest.mark.parametrize("name", _HUB)
def test_a_square_image_of_the_right_size_is_not_changed(tmp_path: Path, name: str) -> None:
    source = encoder(tmp_path, name)
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    processor = _HUB[name]
    mean, std = (
        torch.tensor(v)[:, None, None] for v in (processor.image_mean, processor.image_std)
    )
    expected = (torch.tensor(noise).permute(2, 0, 1) / 255 - mean) / std
    assert torch.allclose(pixels(source, Image.fromarray(noise)), expected, atol=1e-5)


@pytest.mark.parametrize("name", _HUB)
@pytest.mark.parametrize("aspect", ["pad", "own"])
def test_image_size_sets_the_pixels_in_both_ways(tmp_path: Path, name: str, aspect: str) -> None:
    source = replace(encoder(tmp_path, name, image_size=64), image_aspect=aspect)
    assert pixels(source, page(True)).shape == (3, 64, 64)
    if aspect == "own" and name == "dinov2":
        assert load_image_processor(source).size["shortest_edge"] == 74


def pair(folder: Path, name: str) -> tuple[Vlm, tuple[ModelSource, ModelSource]]:
    parts = encoder(folder, name, image_size=48), random_llm(folder, "llama")
    vlm = assemble(*parts, lora=None, precision="fp32", seed=0, device=CPU)
    return vlm, parts


@pytest.mark.parametrize("name", _HUB)
def test_training_scoring_comparison_and_export_make_the_same_pixels(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    vlm, parts = pair(tmp_path, name)
    assert vlm.image_tokens == 36
    wide = page(True)
    wide.save(tmp_path / "page.png")
    trained = vlm.encoder.read([tmp_path / "page.png"])
    assert trained.shape == (1, 3, 48, 48)
    scored = vlm.processor(text="<image>", images=wide, return_tensors="pt")["pixel_values"]
    assert torch.equal(scored, trained)
    seen = []
    whole = vlm.model.get_image_features
    monkeypatch.setattr(
        vlm.model, "get_image_features", lambda values: seen.append(values) or whole(values)
    )
    llm_features(vlm, [wide], batch_size=1, device=CPU, progress=Silent())
    assert torch.equal(seen[0], trained)
    monkeypatch.undo()
    assert export(vlm, tmp_path / "export", ModelCard(*parts, 16, "data", "digest", 0, {})) == []
    again = tf.AutoProcessor.from_pretrained(tmp_path / "export")
    exported = again(text="<image>", images=wide, return_tensors="pt")
    assert torch.equal(exported["pixel_values"], trained)
    model = tf.AutoModelForImageTextToText.from_pretrained(tmp_path / "export").eval()
    with torch.no_grad():
        assert torch.equal(model(**exported).logits, vlm.model.eval()(**exported).logits)


@pytest.mark.parametrize("name", VISION)
def test_every_family_is_padded_and_takes_another_size(tmp_path: Path, name: str) -> None:
    """Twice the side gives four times the tokens."""
    source = random_encoder(tmp_path, name)
    own = load_image_processor(source)(images=page(True), return_tensors="pt")["pixel_values"]
    source = replace(source, image_aspect="pad", image_size=2 * own.shape[-1])
    llm = random_llm(tmp_path, "llama", max_position_embeddings=512)
    vlm = assemble(source, llm, lora=None, precision="fp32", seed=0, device=CPU)
    assert vlm.image_tokens == 4 * VISION[name][2]
    needs = export(vlm, tmp_path / "export", ModelCard(source, llm, 16, "data", "digest", 0, {}))
    loaded = tf.AutoModelForImageTextToText.from_pretrained(
        tmp_path / "export", trust_remote_code=bool(needs)
    )
    processor = tf.AutoProcessor.from_pretrained(
        tmp_path / "export", trust_remote_code=bool(needs)
    )
    inputs = processor(text="<image>", images=page(True), return_tensors="pt")
    with torch.no_grad():
        assert torch.equal(loaded.eval()(**inputs).logits, vlm.model.eval()(**inputs).logits)


def test_images_that_are_not_square_are_refused_only_for_padding(tmp_path: Path) -> None:
    source = random_encoder(tmp_path, "clip")
    tf.CLIPImageProcessor(size={"height": 32, "width": 48}, do_center_crop=False).save_pretrained(
        source.location
    )
    assert pixels(source, page(True)).shape == (3, 32, 48)
    with pytest.raises(ModelError, match=r"32 x 48 pixels; `image_aspect: pad` needs squares"):
        load_image_processor(replace(source, image_aspect="pad"))
    sized = replace(source, image_aspect="pad", image_size=32)
    assert pixels(sized, page(True)).shape == (3, 32, 32)
