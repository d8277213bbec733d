"""Outages: told by their causes from a candidate's errors and from missing files."""

from __future__ import annotations

import errno
import socket
import sqlite3
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING

import httpx2
import numpy as np
import optuna
import pytest
import requests
import sqlalchemy as sa
import torch
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from safetensors import SafetensorError
from safetensors.numpy import save_file

from mordal_optuna.errors import (
    CheckpointError,
    InfrastructureError,
    ModelError,
    SearchError,
    StoreError,
    TrainingError,
)
from mordal_optuna.processes.outages import is_outage, outage, raised_as

if TYPE_CHECKING:
    from pathlib import Path


def answered(status: int) -> HfHubHTTPError:
    request = httpx2.Request("GET", "https://hub")
    return HfHubHTTPError("told", response=httpx2.Response(status, request=request))


OUTAGES = [
    OSError(errno.ENOSPC, "no space left"),
    OSError(errno.EDQUOT, "quota"),
    OSError(errno.EIO, "input/output error"),
    OSError(errno.EROFS, "read-only"),
    OSError(errno.ESTALE, "stale handle"),
    OSError(errno.ENETUNREACH, "unreachable"),
    OSError(errno.EMFILE, "too many open files"),
    ConnectionResetError(errno.ECONNRESET, "reset"),
    TimeoutError("too slow"),
    socket.gaierror(socket.EAI_AGAIN, "name resolution"),
    httpx2.ConnectError("no route"),
    requests.ConnectionError("no route"),
    requests.Timeout("too slow"),
    answered(503),
    answered(429),
    sa.exc.OperationalError("select 1", None, sqlite3.OperationalError("locked")),
    optuna.exceptions.StorageInternalError("commit"),
    StoreError("sqlite:///x", "OperationalError"),
    SafetensorError("Error while serializing: I/O error: No space left (os error 28)"),
    torch.AcceleratorError("CUDA error: unspecified launch failure"),
    torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered"),
    torch.AcceleratorError("CUDA error: all CUDA-capable devices are busy or unavailable"),
    RuntimeError("NCCL error in: ProcessGroupNCCL.cpp, unhandled system error"),
    torch.distributed.DistNetworkError("connection closed"),
]
NOT = [
    FileNotFoundError(errno.ENOENT, "no such file"),
    PermissionError(errno.EACCES, "denied"),
    OSError("image file is truncated"),
    OfflineModeIsEnabled("offline"),
    answered(404),
    answered(401),
    sa.exc.IntegrityError("insert", None, sqlite3.IntegrityError("unique")),
    optuna.exceptions.UpdateFinishedTrialError("ended"),
    SafetensorError("Error while deserializing header: header too small"),
    torch.OutOfMemoryError("CUDA out of memory"),
    torch.AcceleratorError("CUDA error: device-side assert triggered"),
    RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"),
    ValueError("no"),
    TrainingError(8, "the loss is nan"),
]


@pytest.mark.parametrize("error", OUTAGES, ids=repr)
def test_an_outage_is_recognised_also_as_the_cause_of_another_error(
    error: Exception,
) -> None:
    assert is_outage(error)
    chained, during = ModelError("clip", "cannot be loaded"), ValueError("while handling it")
    chained.__cause__ = error
    during.__context__ = error
    assert is_outage(chained)
    assert is_outage(during)


@pytest.mark.parametrize("error", NOT, ids=repr)
def test_what_fails_again_is_none(error: Exception) -> None:
    assert not is_outage(error)


def test_a_cause_that_was_cut_off_does_not_count() -> None:
    """As a traceback shows it: `raise ... from None` says that the cause has no part in it."""
    error = ModelError("clip", "is of no known family")
    error.__context__ = OSError(errno.EIO, "input/output error")
    error.__suppress_context__ = True
    assert not is_outage(error)


def test_a_full_disk_is_recognised_in_the_text_of_safetensors(tmp_path: Path) -> None:
    """The form that is looked for is the one that the library writes."""
    with pytest.raises(SafetensorError, match=r"\(os error 2\)"):
        save_file({"a": np.zeros(1)}, tmp_path / "missing" / "file")


def test_an_outage_is_described_in_one_sentence_without_the_text_of_a_database() -> None:
    driver = sqlite3.OperationalError("secret")
    database = sa.exc.OperationalError("select", None, driver)
    wrapped = optuna.exceptions.StorageInternalError("typically happens due to invalid data")
    wrapped.__cause__ = database
    for error in (database, wrapped):
        assert str(outage(error)) == (
            "outage of storage, disk, network or device: the study's storage failed "
            "(OperationalError)"
        )
    full = CheckpointError("/c", "cannot be written (no space left)")
    assert str(outage(full)).endswith("device: checkpoint '/c': cannot be written (no space left)")
    assert "OSError: [Errno 5]" in str(outage(OSError(errno.EIO, "input/output error\nat x")))
    assert outage(found := InfrastructureError("x")) is found


def test_a_remote_storage_that_is_away_is_an_outage() -> None:
    grpc = pytest.importorskip("grpc")

    class Told(grpc.RpcError):
        def __init__(self, name: str) -> None:
            self.name = name

        def code(self) -> SimpleNamespace:
            return SimpleNamespace(name=self.name)

    assert is_outage(Told("UNAVAILABLE"))
    assert not is_outage(Told("FAILED_PRECONDITION"))


def test_it_loads_no_library() -> None:
    heavy = ("torch", "httpx2", "requests", "sqlalchemy", "optuna", "huggingface_hub")
    code = (
        "import sys, mordal_optuna.processes.outages; "
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_error_of_this_package_keeps_its_class() -> None:
    """A `SearchError` is a `ValueError` as well, and no library's."""

    def failing() -> None:
        with raised_as(lambda reason: TrainingError(8, reason)):
            raise SearchError("rungs must ascend")

    with pytest.raises(SearchError, match="ascend"):
        failing()
