"""What the machine lacks: devices, trackers, packages, and room on the disk."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from mordal_optuna.processes import patience
from tests.cli.bad_inputs.cases import AGAIN, Bad, World, check, parametrized

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def keys(**changes: Any) -> Any:
    return lambda world: ["run", world.study(**changes)]


CASES = [
    Bad("an unknown device", keys(runtime__device="gpu"), ["runtime.device", "'gpu'"]),
    Bad(
        "a device that is not here", keys(runtime__device="cuda:7"), ["runtime.device", "'cuda:7'"]
    ),
    Bad(
        "an unknown tracker",
        keys(runtime__trackers=["nosuch"]),
        ["runtime.trackers", "'nosuch'", "tensorboard"],
    ),
    Bad(
        "a tracker that is not installed",
        keys(runtime__trackers=["comet_ml"]),
        ["runtime.trackers", "comet_ml"],
    ),
    Bad(
        "Weights & Biases without a key",
        keys(runtime__trackers=["wandb"]),
        ["runtime.trackers", "wandb", "WANDB_API_KEY"],
    ),
    Bad(
        "an engine that is not installed",
        keys(evaluation__engine="vllm", task__likelihood=False, also_score=[]),
        ["vllm"],
    ),
    Bad(
        "flash attention",
        keys(alignment__attention="flash_attention_2"),
        ["attention", "flash-attn"],
    ),
]


@parametrized(CASES)
def test_what_the_machine_lacks_is_one_sentence(
    case: Bad, real: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(real.folder))
    check(case, real, capsys)


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own that has room for a few small files alone."""
    place = tmp_path / "full"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if not shutil.which("mount") or subprocess.run(mount, check=False).returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.slow
def test_a_full_disk_under_the_feature_cache_is_one_sentence(
    full: Path, real: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Retried, and then left to a person: the same command continues."""
    monkeypatch.setattr(patience, "TRIES", 2)
    monkeypatch.setattr(patience, "FIRST_PAUSE", 0.0)
    elsewhere = {"shared": str(real.folder), "storage": f"sqlite:///{real.folder / 's.db'}"}
    case = Bad(
        "a full disk",
        lambda world: ["run", world.study(workdir=str(full), **elsewhere)],
        ["No space left on device", "run the same command again"],
        AGAIN,
    )
    check(case, real, capsys)
