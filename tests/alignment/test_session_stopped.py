"""A session that is asked to end leaves an unfinished rung, from which a later one goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from mordal_optuna.alignment.files import CheckpointFiles
from mordal_optuna.alignment.train import Trainer
from mordal_optuna.errors import CheckpointError, Preempted
from mordal_optuna.progress import Silent
from tests.alignment.checkpoints import Held, kept

if TYPE_CHECKING:
    from pathlib import Path

    from mordal_optuna.alignment.session import AlignmentSession
    from mordal_optuna.config import AlignmentSettings


def steps_of(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Positions before each optimiser step, of all sessions."""
    step, seen = Trainer._step, []

    def noted(self: Trainer, *given: Any) -> None:
        seen.append(self.samples)
        step(self, *given)

    monkeypatch.setattr(Trainer, "_step", noted)
    return seen


def stop_at(session: AlignmentSession, position: int, rung: int, guard: Any = None) -> None:
    """Ask a session on its way to a rung to end, once it has come to a position."""

    class Asking(Silent):
        def track(self, title: str, total: int) -> Any:
            bar = super().track(title, total)
            enter = bar.__enter__()
            bar.__exit__(None, None, None)
            done = [rung - total]

            class Bar:
                def __enter__(self) -> Any:
                    return self.advance

                def __exit__(self, *_: object) -> None:
                    return

                def advance(self, amount: int) -> None:
                    enter(amount)
                    done[0] += amount
                    if done[0] == position - 8:  # in the step to come
                        session._machine.stop.ask()

            return Bar()

    with pytest.raises(Preempted):
        session.advance(rung, Asking(), guard)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("schedule", "resumed_at"), [("constant", 40), ("ema", 40), ("linear", 40), ("cooldown", 40)]
)
def test_going_on_from_between_two_rungs_changes_no_bit(
    session: Any,  # noqa: ANN401
    settings: AlignmentSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    schedule: str,
    resumed_at: int,
) -> None:
    """With LoRA dropout, the optimiser's state, the average's weights; no step is done twice."""
    recipe = settings.model_copy(update={"schedule": schedule})
    straight = session(tmp_path / "one", recipe)
    straight.advance(16, Silent())
    straight.advance(64, Silent())
    seen = steps_of(monkeypatch)
    first = session(tmp_path / "two", recipe)
    first.advance(16, Silent())
    stop_at(first, resumed_at, 64)
    torch.manual_seed(123)  # a new process has another random state
    second = session(tmp_path / "two", recipe)
    before = len(seen)
    second.advance(64, Silent())
    assert seen[before] == resumed_at
    assert kept(tmp_path / "two", 64).digest == kept(tmp_path / "one", 64).digest
    live = straight.vlm.trainable()
    assert all(torch.equal(p, live[n]) for n, p in second.vlm.trainable().items())


def test_an_unfinished_rung_is_neither_listed_nor_kept(
    session: Any,  # noqa: ANN401
    tmp_path: Path,
) -> None:
    """It is none that could be scored or exported, and goes when the rung is there."""
    first = session(tmp_path)
    stop_at(first, 16, 32)
    files = CheckpointFiles(tmp_path / "checkpoints")
    run = next((tmp_path / "checkpoints").iterdir()).name
    assert files.runs() == []
    assert files.rungs(f"{run}/unfinished") == [16]
    second = session(tmp_path)
    assert second.rungs() == []
    assert second.find_checkpoint(16) is None
    with pytest.raises(CheckpointError, match="no whole checkpoint"):
        second.restore(Silent())
    second.advance(32, Silent())
    assert files.rungs(run) == [32]
    assert files.rungs(f"{run}/unfinished") == []
    manifest = kept(tmp_path, 32)
    assert manifest.facts["train_seconds"] == second.train_seconds > second.spent_seconds


def test_a_session_whose_claim_is_lost_leaves_nothing(session: Any, tmp_path: Path) -> None:  # noqa: ANN401
    stop_at(session(tmp_path), 16, 32, Held(1, lost=True))
    assert CheckpointFiles(tmp_path / "checkpoints").runs() == []


def test_a_request_in_the_last_step_ends_it_after_the_rung(session: Any, tmp_path: Path) -> None:  # noqa: ANN401
    stop_at(session(tmp_path), 16, 16)
    assert session(tmp_path).rungs() == [16]
