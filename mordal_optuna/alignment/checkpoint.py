"""Checkpoints: the trained parts of a candidate at a rung, and what its training goes on from.

A run (one candidate under one recipe) is addressed by everything that shaped it; its rungs are
numbers of samples. Parts of a rung:

    trained      projector and LoRA as they are scored
    trunk        the same as training goes on from, where that is something else: before the
                 cool-down, or not averaged
    optimizer    state of AdamW

The learning rate and dropout follow from the position, so no scheduler and no generator has a
state of its own.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from mordal_optuna.alignment.files import CheckpointFiles
from mordal_optuna.alignment.train import TrunkState
from mordal_optuna.config import AlignmentSettings
from mordal_optuna.errors import CheckpointError
from mordal_optuna.files.digests import ModelFolder
from mordal_optuna.pool import ModelSource

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import torch
    from transformers import PretrainedConfig

    from mordal_optuna.files.digests import FileDigests
    from mordal_optuna.files.inputs import Part
    from mordal_optuna.processes.guard import Guard


@dataclass(frozen=True)
class Checkpoint:
    """A candidate at a rung.

    Attributes:
        samples: the rung.
        trained: projector and LoRA as they are scored, by parameter name.
        trunk: what training goes on from.
        train_seconds: device-seconds spent from the start up to here.
        versions: of the libraries that trained it.
        candidate: its name, for people.
        sources: where its `vision_encoder` and its `llm` come from; leave to run code is not kept.
    """

    samples: int
    trained: Mapping[str, torch.Tensor]
    trunk: TrunkState
    train_seconds: float
    versions: Mapping[str, str]
    candidate: str = ""
    sources: Mapping[str, ModelSource] = field(default_factory=dict)


class CheckpointStore:
    """Checkpoints in a local folder or behind an fsspec address."""

    def __init__(self, folder: str | Path, *, keep: int | None = None) -> None:
        """Keep checkpoints under a folder; made when the first one is saved.

        Args:
            folder: a local folder, or an fsspec address such as `s3://bucket/mordal`.
            keep: how many of a run's highest rungs stay when one is saved; None keeps all.
        """
        self.files = CheckpointFiles(folder)
        self._keep = keep

    def rungs(self, run: str) -> list[int]:
        """Samples of the checkpoints a run has, ascending."""
        return self.files.rungs(run)

    def save(
        self,
        run: str,
        identity: Mapping[str, Any],
        checkpoint: Checkpoint,
        guard: Guard | None = None,
    ) -> str:
        """Write a checkpoint; one that is already there is replaced.

        Args:
            run: address, see `run_address`.
            identity: what the address was made of; kept beside it for people.
            checkpoint: the state.
            guard: the claim it was trained under; None where there is none.

        Returns:
            The digest of its numbers.

        Raises:
            CheckpointError: if it cannot be written; nothing half-written counts.
            LeaseLostError: if the claim was lost; another worker's checkpoint stays.
            StoreError: if nobody can say whether it was.
        """
        trunk = checkpoint.trunk
        averaged = trunk.average is not None
        apart = averaged or trunk.samples != checkpoint.samples
        parts = {"trained": _writer(checkpoint.trained), "optimizer": _writer(trunk.optimizer)}
        if apart:
            parts["trunk"] = _writer(trunk.weights)
        facts = {
            "samples": checkpoint.samples,
            "trunk_samples": trunk.samples,
            "averaged": averaged,
            "train_seconds": checkpoint.train_seconds,
            "versions": dict(checkpoint.versions),
            "candidate": checkpoint.candidate,
            "sources": {
                kind: {"name": s.name, "location": s.location, "revision": s.revision}
                for kind, s in checkpoint.sources.items()
            },
        }
        written = self.files.write(run, checkpoint.samples, identity, parts, facts, guard)
        if self._keep:
            for rung in self.rungs(run)[: -self._keep]:
                if rung != checkpoint.samples:  # another study may have gone further
                    self.files.delete(run, rung)
        return written.digest

    def load(self, run: str, samples: int) -> Checkpoint:
        """Read a checkpoint, checking every part against its digest.

        Raises:
            CheckpointError: if it is missing or damaged.
        """
        manifest = self.files.manifest(run, samples)
        facts = manifest.facts
        tensors = {name: self._tensors(run, samples, name) for name in manifest.parts}
        trained = tensors["trained"]
        trunk = TrunkState(
            facts["trunk_samples"],
            tensors.get("trunk", trained),
            tensors["optimizer"],
            trained if facts["averaged"] else None,
        )
        return Checkpoint(
            facts["samples"],
            trained,
            trunk,
            facts["train_seconds"],
            facts["versions"],
            facts["candidate"],
            {kind: ModelSource(**source) for kind, source in facts["sources"].items()},
        )

    def _tensors(self, run: str, samples: int, name: str) -> dict[str, torch.Tensor]:
        with self.files.part(run, samples, name) as path:
            try:
                return load_file(path)
            except SafetensorError as error:
                raise CheckpointError(str(path), f"cannot be read ({error})") from error


def run_identity(
    vision_encoder: tuple[ModelSource, PretrainedConfig],
    llm: tuple[ModelSource, PretrainedConfig],
    *,
    settings: AlignmentSettings,
    data_digest: str,
    seed: int,
    files: FileDigests,
) -> dict[str, Any]:
    """Everything that shapes a run: parts and revisions, recipe, data, seed.

    Places and what changes only the speed are left out. The data's digest covers D.
    """
    places = {"conversations", "images", "dataset", "skip_broken_images", "samples"}
    recipe = settings.model_dump(mode="json", exclude=places | AlignmentSettings.SPEED)
    return {
        "vision_encoder": model_identity(*vision_encoder, files),
        "llm": model_identity(*llm, files),
        "alignment": recipe,
        "data": data_digest,
        "seed": seed,
    }


def run_address(identity: Mapping[str, Any]) -> str:
    """A folder name for a run: SHA-256 of its identity, cut to 24 hexadecimal digits."""
    text = json.dumps(identity, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def model_identity(
    source: ModelSource, config: PretrainedConfig, files: FileDigests
) -> dict[str, str | None]:
    """What tells a model from another: its commit on the hub, or a folder's content.

    A folder's content are all files that transformers may read: weights, configurations,
    tokenizer, chat template, image processor, code.

    Args:
        source: where it is.
        config: its configuration, which knows the commit.
        files: gives the digests of its files.
    """
    return dict(model_part(source, config, files).digests)


def model_part(source: ModelSource, config: PretrainedConfig, files: FileDigests) -> Part:
    """A model as a part of a study's inputs; see `model_identity`."""
    folder = Path(source.location)
    if folder.is_dir():
        return ModelFolder(folder, files)
    # A configuration without a commit was not loaded from the hub; the revision is all there is.
    commit = config._commit_hash or source.revision or ""
    return HubModel({"location": source.location, "commit": commit})


@dataclass(frozen=True)
class HubModel:
    """A model on the hub.

    Attributes:
        digests: its location and commit.
    """

    digests: Mapping[str, str]

    def unchanged(self, samples: int) -> bool:  # noqa: ARG002
        """Never known: a branch may have moved on, which its configuration tells when loaded."""
        return False


def _writer(tensors: Mapping[str, torch.Tensor]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        try:
            save_file(dict(tensors), path)
        except SafetensorError as error:  # its way to say that the disk is full
            raise OSError(str(error)) from error

    return write
