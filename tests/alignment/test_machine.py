"""The machine: whether features are cached, and for which encoder and batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from mordal_optuna.alignment.machine import Machine
from mordal_optuna.pool import ModelSource

if TYPE_CHECKING:
    from pathlib import Path

    from mordal_optuna.alignment.data import AlignmentSet
    from mordal_optuna.config import AlignmentSettings


def test_features_are_cached_per_encoder_if_there_is_a_folder_and_space(
    zoo: Path, settings: AlignmentSettings, data: AlignmentSet, cpu: torch.device, tmp_path: Path
) -> None:
    clip, dino = (ModelSource(n, str(zoo / "encoders" / n)) for n in ("clip-t", "dinov2-t"))
    assert Machine(cpu).cache(clip, data, settings, 1) is None
    assert Machine(cpu, features=tmp_path).cache(clip, data, settings, 1) is None
    machine = Machine(cpu, features=tmp_path, feature_bytes=1 << 20)
    cache = machine.cache(clip, data, settings, 1)
    assert cache
    cache.put(0, torch.ones(8, 2, 3))
    same, other = machine.cache(clip, data, settings, 1), machine.cache(dino, data, settings, 1)
    assert same
    assert other
    assert torch.equal(same.get(0), torch.ones(8, 2, 3))
    assert other.get(0) is None
    (folder,) = tmp_path.iterdir()
    assert len(folder.name) == 24
    assert sorted(path.name for path in folder.iterdir()) == [
        "00000000.safetensors",
        "identity.json",
    ]
