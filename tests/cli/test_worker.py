"""`mordal worker` and `mordal run --workers`: exit statuses, prefixes, accelerators."""

from __future__ import annotations

import io
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import torch

from mordal_optuna import joining
from mordal_optuna.cli import worker as commands
from mordal_optuna.errors import (
    BusyError,
    ConfigError,
    FailedSearchError,
    LastingOutageError,
    MordalError,
    ProcessEndedError,
    StudyMismatchError,
    UnreachableStorageError,
)
from tests.cli.calls import call, study_file

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (LastingOutageError("the study's storage failed (OperationalError)", 14), 75),
        (ProcessEndedError(1, "it was interrupted"), 75),
        (BusyError("on study 's'", "wait for it to end"), 75),
        (ConnectionError("gone"), 75),
        (UnreachableStorageError(["storage: nothing listens"]), 75),
        (ConfigError(["storage: no"]), 2),
        (StudyMismatchError("s", ["seed: 0 stored, 1 given"]), 2),
        (FailedSearchError("3 candidates failed", "nan"), 2),
    ],
)
def test_the_status_says_whether_to_try_again(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    status: int,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(joining, "join_study", fail)
    found, shown = call("worker", str(study_file(tmp_path)), capsys=capsys)
    assert found == status
    assert shown.startswith("mordal: ")
    if isinstance(error, MordalError):
        assert str(error) in shown


def test_a_program_error_keeps_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(joining, "join_study", fail)
    monkeypatch.setattr(sys, "argv", ["mordal", "worker", str(study_file(tmp_path))])
    with pytest.raises(ZeroDivisionError):
        commands.worker(study_file(tmp_path))


def test_what_workers_print_has_their_number() -> None:
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", f"print('note'); raise SystemExit({status})"],
            stdout=subprocess.PIPE,
            text=True,
        )
        for status in (0, 75)
    ]
    out = io.StringIO()
    assert commands._ended(workers, out) == [0, 75]
    assert sorted(out.getvalue().splitlines()) == ["[1] note", "[2] note"]


@pytest.mark.parametrize(
    ("count", "kind", "wanted", "seen", "values"),
    [
        (2, "cuda", "auto", None, ["0", "1"]),
        (2, "cuda", "cuda", "4,GPU-7", ["4", "GPU-7"]),
        (2, "cuda", "cuda:1", None, []),
        (2, "cuda", "cpu", None, []),
        (1, "cuda", "auto", None, []),
        (2, "mps", "auto", None, []),
        (0, None, "auto", None, []),
    ],
)
def test_workers_see_one_accelerator_each(
    monkeypatch: pytest.MonkeyPatch,
    count: int,
    kind: str | None,
    wanted: str,
    seen: str | None,
    values: list[str],
) -> None:
    """What the user has made visible is kept to; a device that the file names is used by all."""
    found = SimpleNamespace(type=kind) if kind else None
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: found)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: count)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if seen:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen)
    expected = [("CUDA_VISIBLE_DEVICES", value) for value in values]
    assert commands.visible_devices(wanted) == expected
