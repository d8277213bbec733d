"""Checks of loaded LLMs and of pairs: placeholders, the layer of both paths, losses, answers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from mordal_optuna.config import TaskSettings
from mordal_optuna.config.shipped import shipped
from mordal_optuna.doctor.findings import Check, Notebook
from mordal_optuna.doctor.pairs import (
    PAIR_CHECKS,
    OpenPair,
    answer_to,
    falling_loss,
    look_at_llm,
    loss_verdict,
    open_pair,
    placeholders,
    same_features,
)
from mordal_optuna.errors import TrainingError
from mordal_optuna.evaluation.tasks import build_task
from mordal_optuna.models.generation import load_chat
from mordal_optuna.pool import ModelSource
from mordal_optuna.progress import Silent
from tests.tiny import llm

if TYPE_CHECKING:
    from pathlib import Path

    from mordal_optuna.alignment.data import AlignmentSet
    from mordal_optuna.config import AlignmentSettings
    from mordal_optuna.evaluation.task import Task

pytestmark = pytest.mark.slow


@pytest.fixture
def pair(zoo: Path, settings: AlignmentSettings, data: AlignmentSet) -> OpenPair:
    """A pair of the tiny pool, untrained."""
    opened, verdict = open_pair(
        ModelSource("clip-t", str(zoo / "encoders" / "clip-t")),
        ModelSource("llama-t", str(zoo / "llms" / "llama-t")),
        recipe=settings,
        seed=0,
        data=data,
        device=torch.device("cpu"),
        threads=1,
        progress=Silent(),
    )
    assert verdict.outcome == "ok"
    return opened


@pytest.fixture
def task(zoo: Path) -> Task:
    wanted = TaskSettings(name="mordal_scenes", data=zoo / "tasks" / "scenes")
    return build_task(wanted, [shipped("tasks")], seed=0)


def with_rate(pair: OpenPair, rate: float) -> OpenPair:
    recipe = pair.recipe.model_copy(update={"learning_rate": rate, "warmup_samples": 0})
    return replace(pair, recipe=recipe)


def test_a_clean_pair_passes(pair: OpenPair, task: Task) -> None:
    notes = Notebook()
    notes.checked("p", PAIR_CHECKS, with_rate(pair, 5e-3))
    found = {f.check: (f.verdict.outcome, f.verdict.text) for f in notes.findings}
    assert {check: outcome for check, (outcome, _) in found.items()} == {
        "placeholders": "ok",
        "features": "ok",
        "loss": "ok",
    }, found
    assert found["placeholders"][1] == "16 an image, in 4 samples"
    assert " in 8 steps of 8 samples" in found["loss"][1]
    shown = answer_to(pair, task)
    assert "read as" in shown.text
    assert "scores 0.00" in shown.text or "scores 1.00" in shown.text


def test_another_number_of_placeholders_is_found(pair: OpenPair) -> None:
    pair.vlm.image_tokens = 15
    found = placeholders(pair)
    assert found.outcome == "failed"
    assert "15 placeholders for 16 features" in found.text


def test_a_layer_that_scoring_alone_reads_is_found(pair: OpenPair) -> None:
    """Training computes features by its own code, scoring by LLaVA's."""
    pair.vlm.model.config.vision_feature_layer = -1
    assert same_features(pair).outcome == "failed"
    pair.vlm.model.config.vision_feature_layer = -2
    pair.vlm.encoder.family = replace(pair.vlm.encoder.family, feature_layer=0)
    assert same_features(pair).outcome == "failed"


def test_a_loss_that_does_not_fall_is_found(pair: OpenPair) -> None:
    """It hardly moves at a tiny rate, and is no number at a huge one."""
    still = falling_loss(with_rate(pair, 1e-9))
    assert still.outcome == "warning"
    assert "no more than its noise" in still.text
    with pytest.raises(TrainingError, match="the loss is (nan|inf); a lower learning_rate"):
        falling_loss(with_rate(pair, 1e6))


@pytest.mark.parametrize(
    ("losses", "outcome"),
    [
        ([5.0, 4.6, 4.2, 3.9, 3.7, 3.5, 3.3, 3.2], "ok"),
        ([5.0, 5.2, 4.9, 5.1, 5.0, 5.2, 4.9, 5.1], "warning"),
        ([5.0, 5.1, 5.3, 5.4, 5.6, 5.7, 5.9, 6.0], "failed"),
        ([5.0, 9.9, 9.0, 8.0, 7.0, 6.9, 6.8, 6.7], "failed"),
        ([5.0, 4.0], "ok"),
        ([4.0, 5.0], "failed"),
        ([4.0], "warning"),
    ],
)
def test_losses_are_judged_by_their_noise(losses: list[float], outcome: str) -> None:
    """One that falls from where the first steps drove it has still risen."""
    assert loss_verdict(losses).outcome == outcome


def test_a_rate_that_is_still_rising_is_named(pair: OpenPair) -> None:
    recipe = pair.recipe.model_copy(update={"learning_rate": 1e-9, "warmup_samples": 640})
    assert "rises over the first 640" in falling_loss(replace(pair, recipe=recipe)).text


def test_an_answer_at_the_limit_is_a_warning(pair: OpenPair, task: Task) -> None:
    """Stop tokens are suppressed, as in an LLM that never learnt one."""
    model = pair.vlm.model
    for stop in model.generation_config.eos_token_id:
        model.lm_head.weight.data[stop] = 0
    found = answer_to(pair, task)
    assert found.outcome == "warning"
    assert "it ended at the limit of 4 tokens" in found.text


def test_an_llm_with_broken_weights_is_found(tmp_path: Path, settings: AlignmentSettings) -> None:
    from safetensors.torch import load_file, save_file

    source = llm(tmp_path, "llama")
    cpu = torch.device("cpu")
    found = look_at_llm(source, load_chat(source), settings, cpu)
    assert found.outcome == "ok"
    assert found.text.startswith("llama, fp32, 0.0")
    path = tmp_path / "llama" / "model.safetensors"
    weights = load_file(path)
    weights["model.norm.weight"] = weights["model.norm.weight"] * float("nan")
    save_file(weights, path, {"format": "pt"})
    assert look_at_llm(source, load_chat(source), settings, cpu).outcome == "failed"
    path.write_bytes(b"not safetensors")
    notes = Notebook()
    look = Check("weights", lambda _: look_at_llm(source, load_chat(source), settings, cpu))
    notes.checked("llama", [look], None)
    assert "cannot be loaded from" in notes.findings[0].verdict.text
