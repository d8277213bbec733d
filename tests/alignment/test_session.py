"""Sessions: resuming is exact, finished rungs are not trained again, damage is survived."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from mordal_optuna.alignment.checkpoint import CheckpointStore
from mordal_optuna.alignment.session import AlignmentSession, Machine, warm_up
from mordal_optuna.errors import TrainingError
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


@pytest.fixture
def session(
    parts: tuple[ModelSource, ModelSource], settings: AlignmentSettings, data: AlignmentSet
) -> Any:  # noqa: ANN401
    """Makes sessions on the tiny pool, all alike but for their folder and settings."""

    def make(folder: Path, changed: AlignmentSettings | None = None) -> AlignmentSession:
        return AlignmentSession(
            *parts,
            settings=changed or settings,
            seed=0,
            data=data,
            checkpoints=CheckpointStore(folder / "checkpoints"),
            machine=Machine(
                torch.device("cpu"), features=folder / "features", feature_bytes=1 << 30
            ),
        )

    return make


def state(session: AlignmentSession) -> dict[str, torch.Tensor]:
    """Weights and optimiser state."""
    assert session._trainer
    found = session._trainer.state()
    return {**found.weights, **found.optimizer}


def test_resuming_equals_never_having_stopped(session: Any, tmp_path: Path) -> None:  # noqa: ANN401
    """0 -> 16 -> 32 in two sessions equals 0 -> 32, bit for bit, with LoRA dropout."""
    straight = session(tmp_path / "one")
    straight.advance(32, Silent())
    session(tmp_path / "two").advance(16, Silent())
    torch.manual_seed(123)  # a new process has another random state
    resumed = session(tmp_path / "two")
    resumed.advance(32, Silent())
    first, second = state(straight), state(resumed)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_finished_rung_costs_only_its_loading(session: Any, tmp_path: Path) -> None:  # noqa: ANN401
    first = session(tmp_path)
    first.advance(16, Silent())
    bars: list[str] = []

    class Watching(Silent):
        def track(self, title: str, total: int) -> Any:  # noqa: ANN401
            bars.append(title)
            return super().track(title, total)

    again = session(tmp_path)
    again.advance(16, Watching())
    assert bars == []
    assert again.samples == 16
    assert again.train_seconds == first.train_seconds > 0
    weights = again.vlm.trainable()
    assert all(torch.equal(p, weights[n]) for n, p in first.vlm.trainable().items())


def test_training_lowers_the_loss(session: Any, tmp_path: Path) -> None:  # noqa: ANN401
    run = session(tmp_path)
    run.advance(64, Silent())
    assert len(run.losses) == 8
    assert sum(run.losses[-2:]) < sum(run.losses[:2])


def test_a_smaller_micro_batch_changes_nothing_but_rounding(
    session: Any,  # noqa: ANN401
    settings: AlignmentSettings,
    tmp_path: Path,
) -> None:
    assert settings.lora
    plain = settings.model_copy(update={"lora": settings.lora.model_copy(update={"dropout": 0.0})})
    whole = session(tmp_path / "a", plain.model_copy(update={"micro_batch_size": 8}))
    halved = session(tmp_path / "b", plain.model_copy(update={"micro_batch_size": 2}))
    for run in (whole, halved):
        run.advance(16, Silent())
    other = halved.vlm.trainable()
    for name, parameter in whole.vlm.trainable().items():
        assert torch.allclose(parameter, other[name], atol=1e-5), name


def test_a_damaged_checkpoint_is_reported_and_the_one_below_used(
    session: Any,  # noqa: ANN401
    tmp_path: Path,
) -> None:
    first = session(tmp_path)
    first.advance(16, Silent())
    first.advance(32, Silent())
    (file,) = tmp_path.glob("checkpoints/*/32/trained-*.safetensors")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    notes: list[str] = []

    class Listening(Silent):
        def note(self, text: str) -> None:
            notes.append(text)

    again = session(tmp_path)
    again.advance(32, Listening())
    assert len(notes) == 1
    assert "does not read back" in notes[0]
    weights = again.vlm.trainable()
    assert all(torch.equal(p, weights[n]) for n, p in first.vlm.trainable().items())


def test_a_loss_that_is_no_number_stops_and_leaves_no_checkpoint(
    session: Any,  # noqa: ANN401
    settings: AlignmentSettings,
    tmp_path: Path,
) -> None:
    run = session(tmp_path, settings.model_copy(update={"learning_rate": 1e30}))
    with pytest.raises(TrainingError, match="the loss is (nan|inf)"):
        run.advance(64, Silent())
    assert not list((tmp_path / "checkpoints").rglob("*.safetensors"))


def test_only_whole_batches_can_be_reached(session: Any, tmp_path: Path) -> None:  # noqa: ANN401
    with pytest.raises(TrainingError, match="asked for 20 samples; whole batches of 8"):
        session(tmp_path).advance(20, Silent())


def test_another_recipe_is_another_run(
    session: Any,  # noqa: ANN401
    settings: AlignmentSettings,
    tmp_path: Path,
) -> None:
    session(tmp_path).advance(8, Silent())
    session(tmp_path, settings.model_copy(update={"learning_rate": 5e-4})).advance(8, Silent())
    session(tmp_path, settings.model_copy(update={"micro_batch_size": 1})).advance(8, Silent())
    assert (
        len(list((tmp_path / "checkpoints").iterdir())) == 2
    )  # the micro-batch does not shape the result


def test_warm_up_trains_the_projector_alone(
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
    assert all("multi_modal_projector" in name for name in vlm.trainable())
    assert all(p.grad is None for n, p in vlm.model.named_parameters() if "projector" not in n)
