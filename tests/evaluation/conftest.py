"""A live tiny candidate and its tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mordal_optuna.config import TaskSettings
from mordal_optuna.config.shipped import shipped
from mordal_optuna.evaluation.tasks import build_task
from mordal_optuna.models.assemble import Vlm, assemble
from mordal_optuna.pool import ModelSource

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from mordal_optuna.evaluation.task import Task


@pytest.fixture(scope="session")
def vlm(zoo: Path, cpu: torch.device) -> Vlm:
    """A candidate of the tiny pool, not aligned."""
    encoder = ModelSource("clip", str(zoo / "encoders" / "clip-t"))
    llm = ModelSource("llama", str(zoo / "llms" / "llama-t"))
    return assemble(encoder, llm, lora=None, precision="fp32", seed=0, device=cpu)


@pytest.fixture(scope="session")
def scenes(zoo: Path) -> Task:
    """Our own task, from its shipped YAML."""
    settings = TaskSettings(name="mordal_scenes", data=zoo / "tasks" / "scenes")
    return build_task(settings, [shipped("tasks")], seed=0)


@pytest.fixture(scope="session")
def scienceqa(zoo: Path) -> Task:
    """Upstream's own task code on local data in the hub's schema."""
    settings = TaskSettings(name="scienceqa_img", data=zoo / "tasks" / "ScienceQA")
    return build_task(settings, [shipped("tasks")], seed=0)
