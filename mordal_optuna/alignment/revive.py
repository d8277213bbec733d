"""Assemble a candidate from its checkpoint, without the study file."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from mordal_optuna.alignment.checkpoint import CheckpointStore, part_identity
from mordal_optuna.config import LoraSettings
from mordal_optuna.errors import CheckpointError
from mordal_optuna.files.digests import FileDigests
from mordal_optuna.models.assemble import assemble
from mordal_optuna.models.loading import load_config
from mordal_optuna.pool import with_system

if TYPE_CHECKING:
    from mordal_optuna.models.assemble import Vlm


def checkpoint_at(address: str) -> tuple[str, str, int] | None:
    """Find the checkpoint that an address points to.

    Args:
        address: `<folder>/<run>/<samples>`, or `<folder>/<run>` for the run's highest rung; a
            local path or an fsspec address.

    Returns:
        Folder, run and number of samples; None if there is no checkpoint.
    """
    parts = address.rstrip("/").split("/")
    if len(parts) >= 3 and parts[-1].isdigit():
        folder, run, samples = "/".join(parts[:-2]), parts[-2], int(parts[-1])
        return (folder, run, samples) if samples in _rungs(folder, run) else None
    folder, run = "/".join(parts[:-1]) or ".", parts[-1]
    rungs = _rungs(folder, run) if run else []
    return (folder, run, rungs[-1]) if rungs else None


def revive(address: str, *, device: torch.device, trust_remote_code: bool = False) -> Vlm:
    """Assemble the candidate of a checkpoint as it was scored.

    Args:
        address: address of the checkpoint, see `checkpoint_at`.
        device: torch device for the model.
        trust_remote_code: whether code shipped with the encoder or the LLM may run.

    Raises:
        CheckpointError: if there is no checkpoint, it is damaged, or the encoder or the LLM has
            changed since it was trained.
        ModelError: if the encoder or the LLM cannot be loaded.
    """
    checkpoint_place = checkpoint_at(address)
    if checkpoint_place is None:
        raise CheckpointError(address, "holds no checkpoint; name <folder>/<run>/<samples>")
    folder, run, samples = checkpoint_place
    store = CheckpointStore(folder)
    identity, checkpoint = store.files.identity(run), store.load(run, samples)
    sources = {
        kind: replace(source, trust_remote_code=trust_remote_code)
        for kind, source in checkpoint.sources.items()
    }
    files = FileDigests()
    for kind, source in sources.items():
        config = load_config(source)
        forms = [
            part_identity(kind, source, config, files, older=older) for older in (False, True)
        ]
        if identity[kind] not in forms:
            raise CheckpointError(
                address,
                f"was trained on another {kind.replace('_', ' ')} than the one that is at "
                f"{source.location!r} now",
            )
    recipe = identity["alignment"]
    lora = recipe["lora"]
    vlm = assemble(
        sources["vision_encoder"],
        with_system(sources["llm"], recipe.get("system_prompt")),
        lora=LoraSettings(**lora) if lora else None,
        precision=recipe["precision"],
        seed=identity["seed"],
        device=device,
    )
    parameters = vlm.trainable()
    if parameters.keys() != checkpoint.trained.keys():
        odd = sorted(parameters.keys() ^ checkpoint.trained.keys())
        raise CheckpointError(address, f"differs from its candidate in {odd[0]!r}")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(checkpoint.trained[name])
    return vlm


def _rungs(folder: str, run: str) -> list[int]:
    return CheckpointStore(folder).rungs(run)
