"""Fixtures shared by all tests: a tiny embedded pool, one thread, no network."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from typing import TYPE_CHECKING, Any

import pytest

from tests import databases

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import torch

    from mordal_optuna.alignment.data import AlignmentSet
    from mordal_optuna.config import AlignmentSettings

# Set before any import of numpy or torch, which read these variables once. Processes that tests
# start inherit them. On 2 busy cores, 2 OpenMP threads can be far slower than 1, and the order of
# summation must be fixed for sums to be equal to the last bit.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = "1"
# Without bytecode files, every process that tests start would compile torch and transformers
# again, which takes longer than most tests. The files are removed at the end of the test run.
_BYTECODE = tempfile.mkdtemp(prefix="mordal-bytecode-") if sys.dont_write_bytecode else None
if _BYTECODE:
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix = _BYTECODE
    sys.dont_write_bytecode = False


def pytest_configure(config: pytest.Config) -> None:
    """Disable the hub, shared caches and progress output before test modules import libraries."""
    # Not in pyproject.toml: pytest would import optuna, and numpy with it, before this file.
    config.addinivalue_line("filterwarnings", "ignore::optuna.exceptions.ExperimentalWarning")
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["HF_DATASETS_CACHE"] = tempfile.mkdtemp(prefix="mordal-tests-")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"


def pytest_unconfigure() -> None:
    """Remove temporary folders."""
    shutil.rmtree(os.environ["HF_DATASETS_CACHE"], ignore_errors=True)
    if _BYTECODE:
        shutil.rmtree(_BYTECODE, ignore_errors=True)


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the embedded pool `tiny`: two encoders, two LLMs, data and tasks."""
    import torch

    from mordal_optuna.progress import Silent
    from mordal_optuna.zoo.build import build
    from mordal_optuna.zoo.quickstart import TINY

    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("zoo")
    build(TINY, folder, Silent(), workers=0)
    return folder


@pytest.fixture(scope="session")
def cpu() -> torch.device:
    import torch

    return torch.device("cpu")


@pytest.fixture(scope="session")
def settings(zoo: Path) -> AlignmentSettings:
    """A training recipe for the tiny pool; its dropout makes resuming depend on random states."""
    from mordal_optuna.config import AlignmentSettings, LoraSettings

    return AlignmentSettings(
        conversations=zoo / "alignment" / "alignment.json",
        images=zoo / "alignment" / "images",
        samples=64,
        batch_size=8,
        micro_batch_size=4,
        learning_rate=1e-3,
        warmup_samples=16,
        lora=LoraSettings(rank=4, alpha=8, dropout=0.05),
        precision="fp32",
        max_length=200,
    )


@pytest.fixture(scope="session")
def data(settings: AlignmentSettings) -> AlignmentSet:
    """The alignment set of the tiny pool."""
    from mordal_optuna.alignment.data import AlignmentSet
    from mordal_optuna.progress import Silent

    return AlignmentSet.read(settings, seed=0, progress=Silent())


@pytest.fixture
def study_content(zoo: Path, tmp_path: Path) -> dict[str, Any]:
    """Content of a study file for the tiny pool; the study takes seconds."""
    return {
        "study": "tiny",
        "workdir": str(tmp_path / "run"),
        "pool": {
            "vision_encoders": [
                {"name": name, "location": str(zoo / "encoders" / name)}
                for name in ("clip-t", "dinov2-t")
            ],
            "llms": [
                {"name": name, "location": str(zoo / "llms" / name)}
                for name in ("llama-t", "mistral-t")
            ],
        },
        "alignment": {
            "conversations": str(zoo / "alignment" / "alignment.json"),
            "images": str(zoo / "alignment" / "images"),
            "samples": 64,
            "batch_size": 8,
            "learning_rate": 1e-3,
            "warmup_samples": 8,
            "lora": {"rank": 4, "alpha": 8},
            "precision": "fp32",
            "max_length": 200,
        },
        "task": {"name": "mordal_scenes", "data": str(zoo / "tasks" / "scenes")},
        "also_score": [{"name": "scienceqa_img", "data": str(zoo / "tasks" / "ScienceQA")}],
        "representation": {"images": 16, "warmup_samples": 16},
        "search": {
            "first_ratio": 0.125,
            "max_ratio": 0.5,
            "top_clusters": 1,
            "fit_points": 3,
            "finalists": 1,
            "finish": "full",
        },
        "runtime": {"device": "cpu"},
    }


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """Address of the default database of a PostgreSQL server."""
    with databases.postgresql() as address:
        yield address


@pytest.fixture(scope="session")
def password_postgresql() -> Iterator[databases.PostgresqlServer]:
    """A PostgreSQL server on a local port that asks for passwords."""
    with databases.password_postgresql() as server:
        yield server


@pytest.fixture(scope="session")
def mariadb() -> Iterator[str]:
    """Address of the default database of a MariaDB server."""
    if not databases.has_mariadb():
        pytest.skip("mariadbd is not installed: apt-get install mariadb-server")
    with databases.mariadb() as address:
        yield address


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Address of a new, empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'study.db'}"
    return databases.new_database(request.getfixturevalue(request.param))
