"""Sessions: resuming is exact, finished rungs are not trained again, damage is survived."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
import torch

from mordal_optuna.alignment import gradients, memory
from mordal_optuna.alignment.checkpoint import CheckpointStore
from mordal_optuna.alignment.files import CheckpointFiles
from mordal_optuna.alignment.loss import TargetLoss
from mordal_optuna.alignment.machine import Machine
from mordal_optuna.alignment.session import AlignmentSession
from mordal_optuna.config import LoraSettings
from mordal_optuna.errors import (
    TrainingError,
)
from mordal_optuna.progress import Silent
from tests.alignment.checkpoints import kept

if TYPE_CHECKING:
    from pathlib import Path

    from mordal_optuna.alignment.data import AlignmentSet
    from mordal_optuna.config import AlignmentSettings
    from mordal_optuna.pool import ModelSource


@pytest.mark.parametrize("schedule", ["constant", "ema", "cooldown", "linear"])
def test_resuming_equals_never_having_stopped(
    session: Any,  # noqa: ANN401
    settings: AlignmentSettings,
    tmp_path: Path,
    schedule: str,
) -> None:
    """Rungs 16 and 32 in two sessions equal both in one, and 32 alone, bit for bit.

    With LoRA dropout, weights, optimiser, the branch's and the average's weights.
    """
    recipe = settings.model_copy(update={"schedule": schedule})
    straight = session(tmp_path / "one", recipe)
    straight.advance(32, Silent())
    stepwise = session(tmp_path / "steps", recipe)
    session(tmp_path / "two", recipe).advance(16, Silent())
    torch.manual_seed(123)  # a new process has another random state
    resumed = session(tmp_path / "two", recipe)
    for run in (stepwise, resumed):
        run.advance(16, Silent())
        run.advance(32, Silent())
    expected = kept(tmp_path / "one", 32)
    assert kept(tmp_path / "two", 32).digest == expected.digest
    assert kept(tmp_path / "steps", 32).digest == expected.digest
    assert (set(expected.parts) > {"trunk"}) == (schedule in ("ema", "cooldown"))
    live = straight.vlm.trainable()
    assert all(torch.equal(p, live[n]) for n, p in resumed.vlm.trainable().items())


def test_what_changes_only_the_speed_changes_no_bit_or_only_rounding(
    session: Any,  # noqa: ANN401
    settings: AlignmentSettings,
    tmp_path: Path,
) -> None:
    plain = settings.model_copy(update={"lora": LoraSettings(rank=4, alpha=8)})
    session(tmp_path / "plain", plain).advance(16, Silent())
    expected = kept(tmp_path / "plain", 16).digest
    # The second run of a folder of features finds what the first has left there.
    shutil.copytree(tmp_path / "plain" / "features", tmp_path / "again" / "features")
    session(tmp_path / "again", plain).advance(16, Silent())
    assert kept(tmp_path / "again", 16).digest == expected
    reference = weights_of(tmp_path / "plain", 16)
    for change in (
        {"micro_batch_size": 2},
        {"micro_batch_size": 8},
        {"micro_batch_tokens": 150},
        {"batching": "packed"},
        {"gradient_checkpointing": True},
        {"attention": "eager"},
    ):
        folder = tmp_path / str(change)
        session(folder, plain.model_copy(update=change)).advance(16, Silent())
        found = weights_of(folder, 16)
        assert all(torch.allclose(reference[n], found[n], atol=1e-5) for n in reference), change


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_layers_train_the_same_weights(
    session: Any,  # noqa: ANN401
    settings: AlignmentSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Within rounding, also where layers are recomputed; they are as they were afterwards."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    compiled: list[Any] = []
    original = gradients.compiled_layers

    def noted(llm: Any) -> Any:  # noqa: ANN401
        compiled.append(original(llm))
        return compiled[-1]

    monkeypatch.setattr(gradients, "compiled_layers", noted)
    plain = settings.model_copy(update={"lora": LoraSettings(rank=4, alpha=8)})
    session(tmp_path / "plain", plain).advance(16, Silent())
    expected = weights_of(tmp_path / "plain", 16)
    assert not compiled
    for checkpointing in (False, True):
        change = {"compile": True, "gradient_checkpointing": checkpointing}
        folder = tmp_path / str(checkpointing)
        session(folder, plain.model_copy(update=change)).advance(16, Silent())
        found = weights_of(folder, 16)
        assert all(torch.allclose(expected[n], found[n], atol=1e-5) for n in expected)
        assert compiled[-1]
        assert not any("forward" in vars(layer) for layer in compiled[-1])


def weights_of(folder: Path, samples: int) -> Any:  # noqa: ANN401
    store = CheckpointStore(folder / "checkpoints")
    return store.load(store.files.runs()[0], samples).trained


def test_memory_that_runs_out_makes_smaller_micro_batches_for_a_while(
    session: Any,  # noqa: ANN401
    settings: AlignmentSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The global batch stays, so the weights are those without an error, within rounding.

    Three rows fail twice in the first step. After two steps four rows are tried again.
    """
    monkeypatch.setattr(memory, "_PATIENCE", 1)
    monkeypatch.setattr(memory, "_RISE", 9.0)
    plain = settings.model_copy(update={"lora": LoraSettings(rank=4, alpha=8)})
    session(tmp_path / "plain", plain).advance(24, Silent())
    forward, rows = TargetLoss.forward, []

    def too_large(self: TargetLoss, batch: Any) -> torch.Tensor:  # noqa: ANN401
        rows.append(len(batch["input_ids"]))
        if rows[-1] > 2 and len(rows) < 7:
            raise torch.OutOfMemoryError
        return forward(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(TargetLoss, "forward", too_large)
        session(tmp_path / "less", plain).advance(24, Silent())
        assert rows == [4, 3, *[2] * 8, 4, 4]

        never: list[bool] = []

        def never_fits(self: TargetLoss, _: object) -> torch.Tensor:
            never.append(self.model.model.language_model.is_activation_checkpointing)
            raise torch.OutOfMemoryError

        patch.setattr(TargetLoss, "forward", never_fits)
        with pytest.raises(TrainingError, match="ran out of memory at 1 samples of"):
            session(tmp_path / "none", plain).advance(16, Silent())
        assert never[-2:] == [False, True], "a single sample is tried with checkpointing"
    expected, found = (weights_of(tmp_path / name, 24) for name in ("plain", "less"))
    assert all(torch.allclose(expected[n], found[n], atol=1e-5) for n in expected)


def test_checkpointing_is_chosen_where_a_single_sample_does_not_fit(
    session: Any,  # noqa: ANN401
    settings: AlignmentSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By `auto` alone, and the weights are those with enough memory, within rounding."""
    plain = settings.model_copy(update={"lora": LoraSettings(rank=4, alpha=8)})
    session(tmp_path / "plain", plain).advance(16, Silent())
    forward = TargetLoss.forward

    def needs_checkpointing(self: TargetLoss, batch: Any) -> torch.Tensor:  # noqa: ANN401
        if not self.model.model.language_model.is_activation_checkpointing:
            raise torch.OutOfMemoryError
        return forward(self, batch)

    monkeypatch.setattr(TargetLoss, "forward", needs_checkpointing)
    session(tmp_path / "auto", plain).advance(16, Silent())
    expected, found = (weights_of(tmp_path / name, 16) for name in ("plain", "auto"))
    assert all(torch.allclose(expected[n], found[n], atol=1e-5) for n in expected)
    off = plain.model_copy(update={"gradient_checkpointing": False})
    with pytest.raises(TrainingError, match="gradient_checkpointing, where it is off"):
        session(tmp_path / "off", off).advance(16, Silent())


def test_losses_reach_the_trackers(
    parts: tuple[ModelSource, ModelSource],
    settings: AlignmentSettings,
    data: AlignmentSet,
    tmp_path: Path,
) -> None:
    run = AlignmentSession(
        *parts,
        settings=settings,
        seed=0,
        data=data,
        checkpoints=CheckpointStore(tmp_path / "checkpoints"),
        machine=Machine(
            torch.device("cpu"), trackers=("tensorboard",), project="study", logs=str(tmp_path)
        ),
    )
    run.advance(32, Silent())
    run.close()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "study-clip-llama"))
    events.Reload()
    logged = events.Scalars("loss")
    assert [event.step for event in logged] == [8, 16, 24, 32]
    assert [event.value for event in logged] == pytest.approx(run.losses)


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


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_checkpoint(
    session: Any,  # noqa: ANN401
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = session(tmp_path)
    run.advance(16, Silent())
    before = kept(tmp_path, 16).digest
    forward = TargetLoss.forward
    monkeypatch.setattr(TargetLoss, "forward", lambda *given: forward(*given) * float("nan"))
    with pytest.raises(TrainingError, match="training after 24 samples: the loss is nan"):
        run.advance(64, Silent())
    files = CheckpointFiles(tmp_path / "checkpoints")
    assert files.rungs(files.runs()[0]) == [16]
    assert kept(tmp_path, 16).digest == before


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
