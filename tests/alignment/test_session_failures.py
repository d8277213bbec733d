"""Sessions that fail: errors of a candidate, outages, and claims that are lost."""

from __future__ import annotations

import errno
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors import SafetensorError

from mordal_optuna.alignment import checkpoint, train
from mordal_optuna.alignment import files as files_module
from mordal_optuna.alignment import session as session_module
from mordal_optuna.alignment.files import CheckpointFiles
from mordal_optuna.alignment.loss import TargetLoss
from mordal_optuna.errors import (
    CheckpointError,
    LeaseLostError,
    ModelError,
    TrainingError,
)
from mordal_optuna.processes.guard import Token
from mordal_optuna.processes.outages import is_outage
from mordal_optuna.progress import Silent
from tests.alignment.checkpoints import kept

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def fails(error: Exception) -> Callable[..., Any]:
    def broken(*_: object, **__: object) -> None:
        raise error

    return broken


@pytest.mark.parametrize(
    ("where", "error", "expected", "sentence"),
    [
        (
            (train.Trainer, "_gradients"),
            RuntimeError("no kernel"),
            TrainingError,
            "after 16 .*no kernel",
        ),
        (
            (train.Trainer, "_gradients"),
            NotImplementedError(),
            TrainingError,
            "NotImplementedError",
        ),
        (
            (torch.optim.AdamW, "step"),
            RuntimeError("no memory"),
            TrainingError,
            "after 16 .*memory",
        ),
        (
            (train.Batches, "check"),
            ValueError("no template"),
            TrainingError,
            "after 16 .*no template",
        ),
        (
            (session_module, "assemble"),
            RuntimeError("no such shape"),
            ModelError,
            "'clip [+] llama': .*such shape",
        ),
    ],
)
def test_what_libraries_raise_is_the_candidates_own_error(
    session: Any,  # noqa: ANN401
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: tuple[Any, str],
    error: Exception,
    expected: type[Exception],
    sentence: str,
) -> None:
    """The cause is kept, since it shows whether a device was lost."""
    session(tmp_path).advance(16, Silent())
    monkeypatch.setattr(*where, fails(error))
    with pytest.raises(expected, match=sentence) as caught:
        session(tmp_path).advance(32, Silent())
    assert caught.value.__cause__ is error
    assert not is_outage(caught.value)


def test_a_lost_device_is_an_outage(
    session: Any,  # noqa: ANN401
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lost = torch.AcceleratorError("CUDA error: unspecified launch failure")
    monkeypatch.setattr(TargetLoss, "forward", fails(lost))
    with pytest.raises(TrainingError) as caught:
        session(tmp_path).advance(16, Silent())
    assert is_outage(caught.value)


def test_a_full_disk_is_an_outage_and_damage_is_none(
    session: Any,  # noqa: ANN401
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    full = SafetensorError("I/O error: No space left on device (os error 28)")
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", fails(full))
        with pytest.raises(CheckpointError, match="No space left") as caught:
            session(tmp_path).advance(16, Silent())
        assert is_outage(caught.value)
        patch.setattr(checkpoint, "save_file", fails(SafetensorError("invalid tensor")))
        with pytest.raises(CheckpointError, match="invalid tensor") as caught:
            session(tmp_path).advance(16, Silent())
        assert not is_outage(caught.value)


def test_a_checkpoint_that_cannot_be_reached_is_not_taken_for_damaged(
    session: Any,  # noqa: ANN401
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Or else an outage of seconds would train a rung again."""
    run = session(tmp_path)
    run.advance(16, Silent())
    away = OSError(errno.EIO, "input/output error")
    with monkeypatch.context() as patch:
        patch.setattr(files_module, "file_digest", fails(away))
        with pytest.raises(CheckpointError, match="cannot be read .*input/output error"):
            session(tmp_path).advance(32, Silent())
    monkeypatch.setattr(CheckpointFiles, "_read_json", fails(unreachable(away)))
    with pytest.raises(CheckpointError, match="unreachable"):
        session(tmp_path).find_checkpoint(16)


def test_the_checkpoint_of_the_live_weights_is_known_without_reading_it(
    session: Any,  # noqa: ANN401
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Trained, restored, or already there: it is the one that the rung's manifest names."""
    first, again = session(tmp_path), session(tmp_path)
    assert first.checkpoint is None
    assert first.find_checkpoint(16) is None
    first.advance(16, Silent())
    again.advance(16, Silent())
    monkeypatch.setattr(CheckpointFiles, "manifest", fails(AssertionError("read")))
    first.advance(16, Silent())
    assert first.checkpoint == again.checkpoint
    monkeypatch.undo()
    assert session(tmp_path).find_checkpoint(16) == first.checkpoint
    assert first.checkpoint.address.endswith(kept(tmp_path, 16).parts["trained"])


def unreachable(cause: Exception) -> CheckpointError:
    error = CheckpointError("/c", "unreachable")
    error.__cause__ = cause
    return error


class Held:
    """A claim that is lost at a point: in training, or when the rung is to be written."""

    token = Token("s", 0)
    failure: LeaseLostError | None = None
    checks = 0

    def __init__(self, *, lost_at_check: bool = False) -> None:
        self.lost_at_check = lost_at_check

    def check(self) -> None:
        """As a checkpoint asks."""
        self.checks += 1
        if self.lost_at_check:
            raise LeaseLostError("clip + llama")


def test_a_lost_claim_stops_training_between_two_steps(
    session: Any,  # noqa: ANN401
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(train, "_CHECK_EVERY", 2)
    run, held = session(tmp_path), Held()
    run.advance(8, Silent(), held)
    assert held.checks == 1
    assert kept(tmp_path, 8).token == held.token
    steps = 0

    class Losing(Silent):
        @contextmanager
        def track(self, title: str, total: int) -> Iterator[Any]:  # noqa: ARG002
            def advance(_: int) -> None:
                nonlocal steps
                steps += 1
                held.failure = LeaseLostError("clip + llama")

            yield advance

    with pytest.raises(LeaseLostError):
        run.advance(64, Losing(), held)
    assert steps == 1  # it stops after the second, where it looks
    assert held.checks == 1
    assert list((tmp_path / "checkpoints").glob("*/64/*")) == []


def test_a_claim_that_is_lost_at_the_end_leaves_no_checkpoint(
    session: Any,  # noqa: ANN401
    tmp_path: Path,
) -> None:
    with pytest.raises(LeaseLostError):
        session(tmp_path).advance(16, Silent(), Held(lost_at_check=True))
    assert not list((tmp_path / "checkpoints").glob("*/*/checkpoint*.json"))
