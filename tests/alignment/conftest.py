"""Sessions on the tiny pool, for all tests of alignment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from mordal_optuna.alignment.checkpoint import CheckpointStore
from mordal_optuna.alignment.machine import Machine
from mordal_optuna.alignment.session import AlignmentSession
from mordal_optuna.pool import ModelSource

if TYPE_CHECKING:
    from pathlib import Path

    from mordal_optuna.alignment.data import AlignmentSet
    from mordal_optuna.config import AlignmentSettings


@pytest.fixture
def parts(zoo: Path) -> tuple[ModelSource, ModelSource]:
    encoder = ModelSource("clip", str(zoo / "encoders" / "clip-t"))
    return encoder, ModelSource("llama", str(zoo / "llms" / "llama-t"))


@pytest.fixture
def session(
    parts: tuple[ModelSource, ModelSource], settings: AlignmentSettings, data: AlignmentSet
) -> Any:  # noqa: ANN401
    """Makes sessions on the tiny pool, all alike but for their folder and settings."""

    def make(folder: Path, changed: AlignmentSettings | None = None) -> AlignmentSession:
        return AlignmentSession(
            *parts,
            settings=changed or settings,
            seed=0,
            data=data,
            checkpoints=CheckpointStore(folder / "checkpoints"),
            machine=Machine(
                torch.device("cpu"), features=folder / "features", feature_bytes=1 << 30
            ),
        )

    return make
