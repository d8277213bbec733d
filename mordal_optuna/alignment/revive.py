"""A candidate from its checkpoint alone: the models it names, joined, with what was trained."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from mordal_optuna.alignment.checkpoint import CheckpointStore, model_identity
from mordal_optuna.config import LoraSettings
from mordal_optuna.errors import CheckpointError
from mordal_optuna.files.digests import FileDigests
from mordal_optuna.models.assemble import assemble
from mordal_optuna.models.loading import load_config

if TYPE_CHECKING:
    from mordal_optuna.models.assemble import Vlm


def checkpoint_at(address: str) -> tuple[str, str, int] | None:
    """What an address points to in a folder of checkpoints.

    Args:
        address: `<folder>/<run>/<samples>`, or `<folder>/<run>` for the run's highest rung; local,
            or behind an fsspec address.

    Returns:
        The folder, the run and the samples; None if there is no checkpoint.
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
        address: see `checkpoint_at`.
        device: where the model is to live.
        trust_remote_code: whether code shipped with its parts may run.

    Raises:
        CheckpointError: if there is none, it is damaged, or a part is not what it was trained on.
        ModelError: if a part cannot be loaded.
    """
    found = checkpoint_at(address)
    if found is None:
        raise CheckpointError(address, "holds no checkpoint; name <folder>/<run>/<samples>")
    folder, run, samples = found
    store = CheckpointStore(folder)
    identity, checkpoint = store.files.identity(run), store.load(run, samples)
    sources = {
        kind: replace(source, trust_remote_code=trust_remote_code)
        for kind, source in checkpoint.sources.items()
    }
    files = FileDigests()
    for kind, source in sources.items():
        if model_identity(source, load_config(source), files) != identity[kind]:
            raise CheckpointError(
                address,
                f"was trained on another {kind.replace('_', ' ')} than the one that is at "
                f"{source.location!r} now",
            )
    recipe = identity["alignment"]
    lora = recipe["lora"]
    vlm = assemble(
        sources["vision_encoder"],
        sources["llm"],
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
