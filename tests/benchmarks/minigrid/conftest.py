"""Small synthetic files in the minigrid's formats, written once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import optuna
import pytest

from benchmarks.minigrid.tables.data import TaskData, read_tasks
from tests.benchmarks.minigrid.files import TASKS, write_files

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of two tasks, 3 x 3 pairs."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    folder: Path = tmp_path_factory.mktemp("grids")
    write_files(folder)
    return folder


@pytest.fixture(scope="session")
def tasks(folder: Path) -> tuple[TaskData, ...]:
    """The same, read."""
    return read_tasks(folder, TASKS)
