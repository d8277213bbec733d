"""Warm-up: the projector alone is trained, and can be stored and put back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from mordal_optuna.alignment.machine import Machine
from mordal_optuna.alignment.warmup import warm_up, with_projector
from mordal_optuna.pool import ModelSource
from mordal_optuna.progress import Silent

if TYPE_CHECKING:
    from pathlib import Path

    from mordal_optuna.alignment.data import AlignmentSet
    from mordal_optuna.config import AlignmentSettings


@pytest.fixture
def parts(zoo: Path) -> tuple[ModelSource, ModelSource]:
    encoder = ModelSource("clip", str(zoo / "encoders" / "clip-t"))
    return encoder, ModelSource("llama", str(zoo / "llms" / "llama-t"))


def test_warm_up_trains_the_projector_alone_and_it_can_be_put_back(
    parts: tuple[ModelSource, ModelSource], settings: AlignmentSettings, data: AlignmentSet
) -> None:
    vlm = warm_up(
        *parts,
        settings=settings,
        seed=0,
        data=data,
        samples=16,
        machine=Machine(torch.device("cpu")),
        progress=Silent(),
    )
    projector = {name: p.detach().numpy() for name, p in vlm.trainable().items()}
    again = with_projector(
        *parts, projector, settings=settings, machine=Machine(torch.device("cpu"))
    )
    weights = vlm.model.state_dict()
    assert all(torch.equal(value, weights[n]) for n, value in again.model.state_dict().items())
    assert all("multi_modal_projector" in name for name in vlm.trainable())
    assert all(p.grad is None for n, p in vlm.model.named_parameters() if "projector" not in n)
