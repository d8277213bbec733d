"""Checkpoints: read back as written; addresses follow everything that shapes them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from transformers import AutoConfig

from mordal_optuna.alignment.checkpoint import (
    CheckpointStore,
    model_identity,
    run_address,
    run_identity,
)
from mordal_optuna.errors import ConfigError
from mordal_optuna.files.digests import FileDigests
from mordal_optuna.pool import ModelSource
from tests import tiny
from tests.alignment.checkpoints import checkpoint

if TYPE_CHECKING:
    from mordal_optuna.config import AlignmentSettings


@pytest.fixture(params=["local", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A local folder, and an address that only fsspec knows."""
    return str(tmp_path) if request.param == "local" else f"memory://{tmp_path.name}"


def test_what_is_saved_is_loaded(folder: str) -> None:
    store = CheckpointStore(folder)
    store.save("run", {"seed": 0}, checkpoint(8))
    store.save("run", {"seed": 0}, checkpoint(16))
    assert store.rungs("run") == [8, 16]
    assert store.rungs("other") == []
    found = store.load("run", 16)
    assert torch.equal(found.trained["w"], torch.arange(4.0))
    assert found.trunk.optimizer.keys() == {"w/exp_avg", "w/step"}
    assert (found.samples, found.trunk.samples, found.train_seconds) == (16, 16, 1.5)
    assert store.files.runs() == ["run"]
    assert store.files.identity("run") == {"seed": 0}


def test_a_trunk_that_is_not_scored_is_kept_beside(folder: str) -> None:
    store = CheckpointStore(folder)
    store.save("run", {}, checkpoint(16, trunk=12))
    found = store.load("run", 16)
    assert torch.equal(found.trained["w"], torch.arange(4.0) + 16)
    assert torch.equal(found.trunk.weights["w"], torch.arange(4.0))
    assert (found.trunk.samples, found.trunk.average) == (12, None)


def test_an_average_is_what_is_scored(folder: str) -> None:
    store = CheckpointStore(folder)
    store.save("run", {}, checkpoint(16, averaged=True))
    found = store.load("run", 16)
    assert found.trunk.average
    assert torch.equal(found.trunk.average["w"], found.trained["w"])
    assert not torch.equal(found.trunk.weights["w"], found.trained["w"])


def test_the_digest_is_of_the_numbers_alone(tmp_path: Path) -> None:
    first = CheckpointStore(tmp_path / "a").save("run", {}, checkpoint(8)).digest
    slower = replace(checkpoint(8), train_seconds=99.0)
    assert CheckpointStore(tmp_path / "b").save("run", {}, slower).digest == first
    other = replace(checkpoint(8), trained={"w": torch.zeros(4)})
    assert CheckpointStore(tmp_path / "c").save("run", {}, other).digest != first


def test_only_so_many_are_kept(folder: str) -> None:
    store = CheckpointStore(folder, keep=2)
    for samples in (8, 16, 32):
        store.save("run", {}, checkpoint(samples))
    assert store.rungs("run") == [16, 32]
    store.load("run", 16)


def test_keeping_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="got 0 checkpoints per run; it must be at least 1"):
        CheckpointStore(tmp_path, keep=0)


def test_a_rung_that_was_just_saved_is_kept(folder: str) -> None:
    """Another study has gone further with the same candidate."""
    store = CheckpointStore(folder, keep=2)
    for samples in (16, 32, 8):
        store.save("run", {}, checkpoint(samples))
    assert store.rungs("run") == [8, 16, 32]


def test_the_address_follows_content_not_place(
    tmp_path: Path, settings: AlignmentSettings
) -> None:
    """A model moved elsewhere and renamed is the same; one with other weights is not."""
    here = tiny.llm(tmp_path, "llama")
    there = ModelSource("other name", str(tmp_path / "moved"))
    shutil.copytree(here.location, there.location)
    assert _address(there, settings) == _address(here, settings)
    weights = Path(there.location) / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    assert _address(there, settings) != _address(here, settings)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("chat_template.jinja", "{{ messages }}"),
        ("tokenizer.json", "{}"),
        ("generation_config.json", "{}"),
        ("preprocessor_config.json", "{}"),
    ],
)
def test_the_address_follows_everything_that_is_read_of_a_model(
    tmp_path: Path, settings: AlignmentSettings, file: str, content: str
) -> None:
    """Its weights may be the same: the tokenizer and the template shape the training, too."""
    model = tiny.llm(tmp_path, "llama")
    before = _address(model, settings)
    (Path(model.location) / file).write_text(content)
    assert _address(model, settings) != before


def test_the_address_follows_pixels_that_are_not_the_checkpoints_own(
    tmp_path: Path, settings: AlignmentSettings
) -> None:
    """Own pixels leave it as older versions computed it."""
    clip = tiny.llm(tmp_path, "llama")  # the kind of model does not matter here
    config = AutoConfig.from_pretrained(clip.location)
    own = model_identity(clip, config, FileDigests())
    assert not {"image aspect", "image size"} & own.keys()
    padded = replace(clip, image_aspect="pad")
    assert model_identity(padded, config, FileDigests()) == {**own, "image aspect": "pad"}
    larger = replace(clip, image_size=64)
    assert model_identity(larger, config, FileDigests()) == {**own, "image size": "64"}
    assert len({_address(source, settings) for source in (clip, padded, larger)}) == 3


def _address(model: ModelSource, settings: AlignmentSettings) -> str:
    pair = (model, AutoConfig.from_pretrained(model.location))
    identity = run_identity(
        pair, pair, settings=settings, data_digest="d", seed=0, files=FileDigests()
    )
    return run_address(identity)
