"""Checkpoints: the trained parts of a candidate at a rung, written whole or not at all.

A run (one candidate under one recipe) is addressed by everything that shaped it; its rungs lie
below it by their number of samples:

    <folder>/<run>/run.json             what the address was made of
    <folder>/<run>/<samples>/trained.safetensors    projector and LoRA
    <folder>/<run>/<samples>/optimizer.safetensors  state of AdamW
    <folder>/<run>/<samples>/state.json             position, seconds, versions
    <folder>/<run>/<samples>/digest.json            SHA-256 of the other files
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from mordal_optuna.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from transformers import PretrainedConfig

    from mordal_optuna.config import AlignmentSettings
    from mordal_optuna.pool import ModelSource

_FILES = ("trained.safetensors", "optimizer.safetensors", "state.json")
# Enough of a weight file to tell two models apart without reading gigabytes.
_BLOCKS, _BLOCK_BYTES = 16, 1 << 16


@dataclass(frozen=True)
class Checkpoint:
    """The trained state of a candidate at a rung.

    Attributes:
        samples: alignment samples trained on.
        trained: projector and LoRA weights by parameter name.
        optimizer: state tensors by parameter name and state name, joined by `/`.
        train_seconds: device-seconds spent from the start up to here.
        versions: of the libraries that trained it.
    """

    samples: int
    trained: Mapping[str, torch.Tensor]
    optimizer: Mapping[str, torch.Tensor]
    train_seconds: float
    versions: Mapping[str, str]


class CheckpointStore:
    """Checkpoints in a local folder."""

    def __init__(self, folder: Path) -> None:
        """Keep checkpoints under a folder; made when the first one is saved.

        Args:
            folder: any local folder.
        """
        self._folder = folder

    def rungs(self, run: str) -> list[int]:
        """Samples of the checkpoints a run has, ascending."""
        folder = self._folder / run
        if not folder.is_dir():
            return []
        return sorted(int(entry.name) for entry in folder.iterdir() if entry.name.isdecimal())

    def save(self, run: str, identity: Mapping[str, Any], checkpoint: Checkpoint) -> str:
        """Write a checkpoint; one that is already there is replaced.

        Args:
            run: address, see `run_address`.
            identity: what the address was made of; kept beside it for people.
            checkpoint: the state.

        Returns:
            The digest of the trained weights.

        Raises:
            CheckpointError: if it cannot be written; nothing half-written is left under its name.
        """
        target = self._path(run, checkpoint.samples)
        scratch = target.with_name(f".{target.name}-{uuid.uuid4().hex}")
        try:
            scratch.mkdir(parents=True)
            digest = self._write(scratch, checkpoint)
            _write_json(target.parent / "run.json", dict(identity))
            if target.exists():
                shutil.rmtree(target)
            scratch.rename(target)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(scratch, ignore_errors=True)
            raise CheckpointError(str(target), f"cannot be written ({error})") from error
        return digest

    def load(self, run: str, samples: int) -> Checkpoint:
        """Read a checkpoint, checking every file against its digest.

        Raises:
            CheckpointError: if it is missing or damaged.
        """
        path = self._path(run, samples)
        try:
            expected = json.loads((path / "digest.json").read_text(encoding="utf-8"))
            for name in _FILES:
                if file_digest(path / name) != expected[name]:
                    raise CheckpointError(
                        str(path),
                        f"{name} does not read back as it was written; delete the folder",
                    )
            state = json.loads((path / "state.json").read_text(encoding="utf-8"))
            return Checkpoint(
                trained=load_file(path / "trained.safetensors"),
                optimizer=load_file(path / "optimizer.safetensors"),
                **state,
            )
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise CheckpointError(str(path), f"cannot be read ({error})") from error

    def _path(self, run: str, samples: int) -> Path:
        return self._folder / run / str(samples)

    def _write(self, folder: Path, checkpoint: Checkpoint) -> str:
        save_file(dict(checkpoint.trained), folder / "trained.safetensors")
        save_file(dict(checkpoint.optimizer), folder / "optimizer.safetensors")
        state = {
            "samples": checkpoint.samples,
            "train_seconds": checkpoint.train_seconds,
            "versions": dict(checkpoint.versions),
        }
        _write_json(folder / "state.json", state)
        digests = {name: file_digest(folder / name) for name in _FILES}
        _write_json(folder / "digest.json", digests)
        for name in (*_FILES, "digest.json"):
            _flush(folder / name)
        return digests["trained.safetensors"]


def run_identity(
    vision_encoder: tuple[ModelSource, PretrainedConfig],
    llm: tuple[ModelSource, PretrainedConfig],
    *,
    settings: AlignmentSettings,
    data_digest: str,
    seed: int,
) -> dict[str, Any]:
    """Everything that shapes a run: parts and revisions, recipe, data, seed.

    Places and the micro-batch are left out: they change where and how fast, not what.
    """
    recipe = settings.model_dump(
        mode="json", exclude={"conversations", "images", "samples", "micro_batch_size"}
    )
    return {
        "vision_encoder": _model_identity(*vision_encoder),
        "llm": _model_identity(*llm),
        "alignment": recipe,
        "data": data_digest,
        "seed": seed,
    }


def run_address(identity: Mapping[str, Any]) -> str:
    """A folder name for a run: SHA-256 of its identity, cut to 24 hexadecimal digits."""
    text = json.dumps(identity, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _model_identity(source: ModelSource, config: PretrainedConfig) -> dict[str, str | None]:
    folder = Path(source.location)
    if not folder.is_dir():
        return {"location": source.location, "commit": config._commit_hash or source.revision}
    content = hashlib.sha256((folder / "config.json").read_bytes())
    for weights in sorted(folder.glob("*.safetensors")):
        content.update(_sampled_bytes(weights))
    return {"content": content.hexdigest()}


def _sampled_bytes(path: Path) -> bytes:
    """Size, and evenly spaced blocks from the first to the last."""
    size = path.stat().st_size
    with path.open("rb") as file:
        blocks = []
        for block in range(_BLOCKS):
            file.seek(max(0, (size - _BLOCK_BYTES) * block // (_BLOCKS - 1)))
            blocks.append(file.read(_BLOCK_BYTES))
    return f"{path.name}:{size}".encode() + b"".join(blocks)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    scratch = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    scratch.write_text(json.dumps(content, indent=2, sort_keys=True), encoding="utf-8")
    scratch.replace(path)


def _flush(path: Path) -> None:
    """Wait until a file is on the disk, so that a rename never outruns its content."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
