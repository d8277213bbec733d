"""A candidate assembled from its checkpoint alone."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
import torch

from mordal_optuna.alignment.checkpoint import CheckpointStore
from mordal_optuna.alignment.machine import Machine
from mordal_optuna.alignment.revive import checkpoint_at, revive
from mordal_optuna.alignment.session import AlignmentSession
from mordal_optuna.errors import CheckpointError
from mordal_optuna.pool import ModelSource
from mordal_optuna.progress import Silent

if TYPE_CHECKING:
    from pathlib import Path

    from mordal_optuna.alignment.data import AlignmentSet
    from mordal_optuna.config import AlignmentSettings


def trained(
    folder: Path,
    zoo: Path,
    settings: AlignmentSettings,
    data: AlignmentSet,
    size: int | None = None,
) -> str:
    """A run of two rungs whose parts lie in `folder`; with a size, on padded images."""
    for kind, name in (("encoders", "clip-t"), ("llms", "llama-t")):
        shutil.copytree(zoo / kind / name, folder / name)
    store = CheckpointStore(folder / "checkpoints")
    session = AlignmentSession(
        ModelSource(
            "clip",
            str(folder / "clip-t"),
            image_aspect="pad" if size else "own",
            image_size=size,
        ),
        ModelSource("llama", str(folder / "llama-t")),
        settings=settings,
        seed=3,
        data=data,
        checkpoints=store,
        machine=Machine(torch.device("cpu")),
    )
    for samples in (8, 16):
        session.advance(samples, Silent())
    (run,) = store.files.runs()
    return f"{folder / 'checkpoints'}/{run}"


def test_it_is_the_candidate_that_was_scored(
    zoo: Path, settings: AlignmentSettings, data: AlignmentSet, tmp_path: Path, cpu: torch.device
) -> None:
    """At a rung, or at the highest; every trained number as it was kept."""
    run = trained(tmp_path, zoo, settings, data)
    folder, name = run.rsplit("/", 1)
    assert checkpoint_at(run) == (folder, name, 16)
    for address, samples in ((run, 16), (f"{run}/8", 8)):
        vlm = revive(address, device=cpu)
        kept = CheckpointStore(folder).load(name, samples).trained
        assert {n: p.tolist() for n, p in vlm.trainable().items()} == {
            n: p.tolist() for n, p in kept.items()
        }


def test_it_has_the_pixels_that_it_was_trained_on(
    zoo: Path, settings: AlignmentSettings, data: AlignmentSet, tmp_path: Path, cpu: torch.device
) -> None:
    """Padded images of another size, from what the checkpoint says of its encoder."""
    vlm = revive(trained(tmp_path, zoo, settings, data, size=40), device=cpu)
    assert vlm.processor.image_processor.do_pad
    assert vlm.encoder.read([data.pictures(0)[0]]).shape[-2:] == (40, 40)


def test_an_address_without_a_checkpoint_is_refused(tmp_path: Path, cpu: torch.device) -> None:
    for address in ("owner/model", str(tmp_path), str(tmp_path / "run" / "16")):
        assert checkpoint_at(address) is None
    with pytest.raises(CheckpointError, match="holds no checkpoint; name <folder>/<run>"):
        revive(str(tmp_path), device=cpu)


def test_a_part_that_changed_is_refused(
    zoo: Path, settings: AlignmentSettings, data: AlignmentSet, tmp_path: Path, cpu: torch.device
) -> None:
    """The trained numbers mean nothing on another model."""
    run = trained(tmp_path, zoo, settings, data)
    shutil.rmtree(tmp_path / "clip-t")
    shutil.copytree(zoo / "encoders" / "dinov2-t", tmp_path / "clip-t")
    with pytest.raises(CheckpointError, match="trained on another vision encoder .*clip-t' now"):
        revive(run, device=cpu)
