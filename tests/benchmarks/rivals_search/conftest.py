"""Small synthetic files in the minigrid's formats: four tasks of 3 x 3 pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import optuna
import pytest

from tests.benchmarks.minigrid.files import write_files

if TYPE_CHECKING:
    from pathlib import Path

TASKS = ("gqa", "chartqa", "ai2d", "mmmu_val")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the files."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    folder: Path = tmp_path_factory.mktemp("rivals")
    write_files(folder, tasks=TASKS, schedules=False)
    return folder
