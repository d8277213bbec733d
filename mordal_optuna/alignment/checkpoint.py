"""Checkpoints: trained weights of a candidate at a rung, and the state to continue training from.

A run is one candidate under one recipe. Its address is the digest of everything that shapes its
weights; its rungs are numbers of samples. Parts of a checkpoint:

    trained      weights of projector and LoRA that are scored
    trunk        weights that training continues from, if they differ: those before the cool-down,
                 or those that are not averaged
    optimizer    state of AdamW

The learning rate and the seed of dropout follow from the number of samples, so that no state of a
scheduler or of a random generator is stored.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from mordal_optuna.alignment.files import CheckpointFiles
from mordal_optuna.alignment.train import TrunkState
from mordal_optuna.config import AlignmentSettings
from mordal_optuna.errors import CheckpointError, ConfigError
from mordal_optuna.files.digests import ModelFolder
from mordal_optuna.models.hub import hub_digests, hub_state, is_commit, is_local
from mordal_optuna.models.loading import load_template
from mordal_optuna.models.template import template_identity
from mordal_optuna.pool import ModelSource, TemplateOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import torch
    from transformers import PretrainedConfig

    from mordal_optuna.alignment.manifests import Manifest
    from mordal_optuna.files.digests import FileDigests
    from mordal_optuna.files.inputs import Part
    from mordal_optuna.processes.guard import Guard


@dataclass(frozen=True)
class Checkpoint:
    """A candidate at a rung.

    Attributes:
        samples: number of alignment samples at the rung.
        trained: weights of projector and LoRA that are scored, by parameter name.
        trunk: state that training continues from.
        train_seconds: device-seconds of training from the start to the rung.
        versions: versions of the libraries that trained it, by name.
        candidate: name of the candidate, for display only.
        sources: `ModelSource` of the `vision_encoder` and the `llm`; `trust_remote_code` is not
            stored.
        longest: length of the longest sample up to the rung in tokens, before cutting.
        skipped: number of samples up to the rung that could not be trained on.
        checked: of an unfinished rung, number of samples that `skipped` covers; None for a rung.
    """

    samples: int
    trained: Mapping[str, torch.Tensor]
    trunk: TrunkState
    train_seconds: float
    versions: Mapping[str, str]
    candidate: str = ""
    sources: Mapping[str, ModelSource] = field(default_factory=dict)
    longest: int = 0
    skipped: int = 0
    checked: int | None = None


class CheckpointStore:
    """Checkpoints in a local folder or behind an fsspec address."""

    def __init__(self, folder: str | Path, *, keep: int | None = None) -> None:
        """Open a store; its folder is made when the first checkpoint is saved.

        Args:
            folder: local folder, or fsspec address such as `s3://bucket/mordal`.
            keep: number of a run's highest rungs that stay when one is saved, at least 1; None
                keeps all.

        Raises:
            ConfigError: if `keep` is below 1.
            CheckpointError: if the address cannot be opened.
        """
        if keep is not None and keep < 1:
            raise ConfigError([f"keep: got {keep} checkpoints per run; it must be at least 1"])
        self.files = CheckpointFiles(folder)
        self._keep = keep

    def rungs(self, run: str) -> list[int]:
        """Samples of a run's checkpoints, ascending."""
        return self.files.rungs(run)

    def save(
        self,
        run: str,
        identity: Mapping[str, Any],
        checkpoint: Checkpoint,
        guard: Guard | None = None,
    ) -> Manifest:
        """Write a checkpoint, replacing an existing one of the same rung.

        Args:
            run: address of the run, see `run_address`.
            identity: dictionary that the address is the digest of; written beside the rungs.
            checkpoint: the checkpoint.
            guard: claim under which it was trained; None without a claim.

        Returns:
            The manifest that was written.

        Raises:
            CheckpointError: if it cannot be written; a partly written checkpoint is not listed.
            LeaseLostError: if the claim was lost; the other worker's checkpoint stays.
            StoreError: if the database cannot be asked whether the claim is held.
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
            "sources": {kind: _stored_source(s) for kind, s in checkpoint.sources.items()},
            "longest": checkpoint.longest,
            "skipped": checkpoint.skipped,
        }
        if checkpoint.checked is not None:
            facts["checked"] = checkpoint.checked
        manifest = self.files.write(run, checkpoint.samples, identity, parts, facts, guard)
        if self._keep:
            for rung in self.rungs(run)[: -self._keep]:
                if rung != checkpoint.samples:  # another study may have trained further
                    self.files.delete(run, rung)
        return manifest

    def load(self, run: str, samples: int, manifest: Manifest | None = None) -> Checkpoint:
        """Read a checkpoint, checking every part against its digest.

        Args:
            run: address of the run.
            samples: number of alignment samples at the rung.
            manifest: manifest of the checkpoint; None reads it.

        Raises:
            CheckpointError: if the checkpoint is missing or damaged.
        """
        manifest = manifest or self.files.manifest(run, samples)
        facts = manifest.facts
        tensors = {
            name: self._tensors(run, samples, name, digest)
            for name, digest in manifest.parts.items()
        }
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
            {kind: _read_source(source) for kind, source in facts["sources"].items()},
            facts.get("longest", 0),
            facts.get("skipped", 0),
            facts.get("checked"),
        )

    def _tensors(self, run: str, samples: int, name: str, digest: str) -> dict[str, torch.Tensor]:
        with self.files.part(run, samples, name, digest) as path:
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
    older: bool = False,
) -> dict[str, Any]:
    """Everything that shapes the weights of a run: models, recipe, data, seed.

    Paths, and settings that only change the speed, are left out. So are `max_length` and
    `too_long`, which change nothing unless a sample is cut; see `runs`.

    Args:
        vision_encoder: source and configuration of the encoder.
        llm: source and configuration of the LLM.
        settings: alignment recipe.
        data_digest: digest of the alignment set, which covers its size D.
        seed: random seed of the run.
        files: digests of the models' files.
        older: whether models on the hub are identified as in older versions.

    Returns:
        Dictionary of JSON values.
    """
    left_out = {*AlignmentSettings.PLACES, *AlignmentSettings.SPEED, "recipe", "warmup_share"}
    recipe = settings.stored(left_out) | {"max_length": 2048, "too_long": "refuse"}
    return {
        "vision_encoder": part_identity("vision_encoder", *vision_encoder, files, older=older),
        "llm": part_identity("llm", *llm, files, older=older),
        "alignment": recipe,
        "data": data_digest,
        "seed": seed,
    }


def run_address(identity: Mapping[str, Any]) -> str:
    """Folder name of a run: the first 24 hexadecimal digits of SHA-256 of its identity.

    Args:
        identity: dictionary from `run_identity`.
    """
    text = json.dumps(identity, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def model_identity(
    source: ModelSource, config: PretrainedConfig, files: FileDigests
) -> dict[str, str | None]:
    """Identity of a model's content: digests of its files, in a local folder or on the hub.

    The digests cover all files that transformers may read: weights, configurations, tokenizer,
    chat template, image processor, code. An encoder's `image_aspect` and `image_size` are part of
    it where they change the pixels of its own image processor.

    Args:
        source: name and location of the model.
        config: configuration of the model, which holds the commit.
        files: digests of local files.
    """
    return dict(model_part(source, config, files).digests)


def part_identity(
    kind: str,
    source: ModelSource,
    config: PretrainedConfig,
    files: FileDigests,
    *,
    older: bool = False,
) -> dict[str, str | None]:
    """Identity of a model in a run: its content, and options that change an LLM's chat template.

    Args:
        kind: `vision_encoder` or `llm`.
        source: name and location of the model, and how it is used.
        config: configuration of the model, which holds the commit.
        files: digests of local files.
        older: whether a model on the hub is identified as in older versions.

    Raises:
        ModelError: if the template cannot be read, or the options do not fit the template.
    """
    content: dict[str, str | None] = {}
    if older and not is_local(source):
        content.update(older_identity(source, config))
    else:
        content.update(model_identity(source, config, files))
    if kind == "llm":
        content |= template_identity(load_template(source), source.template, name=source.name)
    return content


def model_part(source: ModelSource, config: PretrainedConfig, files: FileDigests) -> Part:
    """A model as a part of a study's inputs; arguments as in `model_identity`."""
    folder, pixels = Path(source.location), source.pixels()
    if folder.is_dir():
        return ModelFolder(folder, files, pixels)
    state = hub_state(source, files)
    digests = {**hub_digests(source, state), **pixels}
    return HubModel(digests, older_identity(source, config), is_commit(source.revision))


def older_identity(source: ModelSource, config: PretrainedConfig) -> dict[str, str]:
    """Identity of a model on the hub in older versions: its location and commit.

    Args:
        source: name and location of the model.
        config: configuration of the model, which holds the commit.
    """
    # Not every version of transformers keeps the commit; a study loads a model at one.
    commit = getattr(config, "_commit_hash", None) or source.revision or ""
    return {"location": source.location, "commit": commit, **source.pixels()}


@dataclass(frozen=True)
class HubModel:
    """A model on the hub.

    Attributes:
        digests: digests of the files that are read, by purpose, and what changes an encoder's
            pixels.
        older: what older versions stored instead.
        fixed: whether it is loaded at a commit.
    """

    digests: Mapping[str, str]
    older: Mapping[str, str]
    fixed: bool

    def unchanged(self, samples: int) -> bool:  # noqa: ARG002
        """Whether it cannot have changed; a branch may have moved on the hub."""
        return self.fixed


def _stored_source(source: ModelSource) -> dict[str, Any]:
    """Fields of a source that a checkpoint stores, without defaults that older versions lack."""
    fields: dict[str, Any] = {
        "name": source.name,
        "location": source.location,
        "revision": source.revision,
    }
    if source.template != TemplateOptions():
        fields["template"] = asdict(source.template)
    if source.image_aspect != "own":
        fields["image_aspect"] = source.image_aspect
    if source.image_size is not None:
        fields["image_size"] = source.image_size
    return fields


def _read_source(stored: Mapping[str, Any]) -> ModelSource:
    template = dict(stored.get("template") or {})
    arguments = tuple((name, value) for name, value in template.pop("arguments", ()))
    options = TemplateOptions(arguments=arguments, **template)
    return ModelSource(**{**stored, "template": options})


def _writer(tensors: Mapping[str, torch.Tensor]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        try:
            save_file(dict(tensors), path)
        except SafetensorError as error:  # raised if the disk is full
            raise OSError(str(error)) from error

    return write
