"""Checkpoints that transformers does not read give the features of their own maths."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mordal_optuna.config.locations import _HUB_ID
from mordal_optuna.errors import ModelError
from mordal_optuna.models.loading import check_model, load_image_processor
from mordal_optuna.models.towers import load_encoder
from mordal_optuna.pool import ModelSource
from tests import foreign_encoders as foreign

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", [*foreign.FOREIGN, *foreign.OPEN_CLIP])
def test_features_are_those_of_the_checkpoints_own_code(tmp_path: Path, name: str) -> None:
    if name in foreign.OPEN_CLIP:
        pytest.importorskip("open_clip", reason="needs open-clip-torch, of the extra `test`")
        source, features = foreign.open_clip(tmp_path, name)
    else:
        make = foreign.intern_vit if name == "internvit-hub" else foreign.apple_aimv2
        source, features = make(tmp_path)
    check_model(source, "vision_encoder")
    encoder = load_encoder(source, "fp32", CPU)
    side = 224 if name == "open-clip-timm" else foreign.SIDE
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, found = features(images), encoder.features(images)
    assert found.shape == expected.shape
    assert torch.allclose(found, expected, atol=1e-4, rtol=1e-4)
    assert expected.std() > 0.1


@pytest.mark.parametrize("mode", ["shortest", "squash"])
def test_open_clips_own_transform_is_the_image_processor(tmp_path: Path, mode: str) -> None:
    library = pytest.importorskip("open_clip", reason="needs open-clip-torch, of extra `test`")
    import numpy as np
    from PIL import Image

    source, _ = foreign.open_clip(tmp_path, "open-clip-vit")
    place = Path(source.location) / "open_clip_config.json"
    settings = json.loads(place.read_text())
    settings["preprocess_cfg"]["resize_mode"] = mode
    place.write_text(json.dumps(settings))
    smooth = np.linspace(0, 255, 96 * 64 * 3).reshape(64, 96, 3).astype("uint8")
    image = Image.fromarray(smooth)
    chosen = {k: settings["preprocess_cfg"][k] for k in ("mean", "std", "resize_mode")}
    transform = library.transform.image_transform(
        foreign.SIDE, is_train=False, interpolation="bicubic", **chosen
    )
    found = load_image_processor(source)(images=image, return_tensors="pt")["pixel_values"][0]
    assert (found - transform(image)).abs().max() < 0.05


def settings_of_open_clip(folder: Path, **vision: object) -> ModelSource:
    folder.mkdir(exist_ok=True)
    config = {"model_cfg": {"embed_dim": 16, "vision_cfg": {"width": 64, **vision}}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return ModelSource("mine", str(folder))


@pytest.mark.parametrize(
    ("vision", "message"),
    [
        ({"layers": [3, 4, 6, 3]}, "is a ResNet in open_clip_config.json"),
        ({"ls_init_value": 0.1}, "has 'ls_init_value' in open_clip_config.json"),
        ({"attentional_pool": True}, "has 'attentional_pool'"),
        ({"timm_model_name": "resnet50"}, "architecture 'resnet50' is not supported"),
    ],
)
def test_an_architecture_that_cannot_be_converted_is_refused(
    tmp_path: Path, vision: dict[str, object], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        check_model(settings_of_open_clip(tmp_path / "model", **vision), "vision_encoder")


def test_a_model_of_timm_needs_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mordal_optuna.models.foreign.is_timm_available", lambda: False)
    source = settings_of_open_clip(tmp_path / "model", timm_model_name="vit_base_patch16_224")
    with pytest.raises(ModelError, match=r"timm is not installed; .*the extra `open-clip`"):
        check_model(source, "vision_encoder")


def test_pickled_weights_are_refused_with_what_to_do(tmp_path: Path) -> None:
    """As of BiomedCLIP on the hub, which has `open_clip_pytorch_model.bin` alone."""
    source = settings_of_open_clip(tmp_path / "model", layers=2)
    (tmp_path / "model" / "open_clip_pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ModelError, match="has no open_clip_model.safetensors.*convert"):
        load_encoder(source, "fp32", CPU)


def test_open_clips_name_of_a_hub_checkpoint_is_taken(tmp_path: Path) -> None:
    """It reads open_clip's files, even where there are those of transformers."""
    assert _HUB_ID.match("hf-hub:laion/CLIP-ViT-B-32")
    assert not _HUB_ID.match("s3://laion/CLIP")
    source = settings_of_open_clip(tmp_path / "model", layers=2)
    (tmp_path / "model" / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(ModelError, match="'llama' is not supported"):
        check_model(source, "vision_encoder")
    check_model(replace(source, location=f"hf-hub:{source.location}"), "vision_encoder")
