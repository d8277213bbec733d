"""Checkpoints: whole or not at all, addressed by what shaped them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from transformers import AutoConfig

from mordal_optuna.alignment.checkpoint import (
    Checkpoint,
    CheckpointStore,
    run_address,
    run_identity,
)
from mordal_optuna.errors import CheckpointError
from mordal_optuna.pool import ModelSource
from tests import tiny

if TYPE_CHECKING:
    from mordal_optuna.config import AlignmentSettings


def checkpoint(samples: int) -> Checkpoint:
    return Checkpoint(
        samples=samples,
        trained={"w": torch.arange(4.0)},
        optimizer={"w/exp_avg": torch.ones(4), "w/step": torch.tensor(3.0)},
        train_seconds=1.5,
        versions={"torch": "2"},
    )


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    store.save("run", {"seed": 0}, checkpoint(8))
    store.save("run", {"seed": 0}, checkpoint(16))
    assert store.rungs("run") == [8, 16]
    assert store.rungs("other") == []
    found = store.load("run", 16)
    assert torch.equal(found.trained["w"], torch.arange(4.0))
    assert found.optimizer.keys() == {"w/exp_avg", "w/step"}
    assert (found.samples, found.train_seconds) == (16, 1.5)


def test_nothing_half_written_is_left_behind(tmp_path: Path, monkeypatch) -> None:  # noqa: ANN001
    """The disk fills up while the checkpoint is written: no rung, no scratch folder."""
    store = CheckpointStore(tmp_path)

    def full(self: Path, *_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(CheckpointError, match="No space left"):
            store.save("run", {}, checkpoint(8))
    assert store.rungs("run") == []
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.parametrize("name", ["trained.safetensors", "optimizer.safetensors", "state.json"])
def test_any_damage_is_found(tmp_path: Path, name: str) -> None:
    store = CheckpointStore(tmp_path)
    store.save("run", {}, checkpoint(8))
    file = tmp_path / "run" / "8" / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match=f"{name} does not read back"):
        store.load("run", 8)


def test_a_missing_checkpoint_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        CheckpointStore(tmp_path).load("run", 8)


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


def _address(model: ModelSource, settings: AlignmentSettings) -> str:
    pair = (model, AutoConfig.from_pretrained(model.location))
    return run_address(run_identity(pair, pair, settings=settings, data_digest="d", seed=0))
