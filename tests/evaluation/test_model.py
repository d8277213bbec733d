"""The model plugin: independence of the batch size, stop strings, lmms-eval's command line."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from PIL import Image

from mordal_optuna.alignment.checkpoint import CheckpointStore
from mordal_optuna.alignment.files import CheckpointFiles
from mordal_optuna.alignment.machine import Machine
from mordal_optuna.alignment.session import AlignmentSession
from mordal_optuna.config.shipped import shipped
from mordal_optuna.errors import EvaluationError, ModelError
from mordal_optuna.evaluation.answers import Answer
from mordal_optuna.evaluation.guards import import_lmms_eval
from mordal_optuna.evaluation.score import score
from mordal_optuna.models.assemble import Vlm, assemble
from mordal_optuna.models.export import ModelCard, export
from mordal_optuna.models.llava import PatchLlavaForConditionalGeneration
from mordal_optuna.pool import ModelSource
from mordal_optuna.progress import Silent
from tests.families import random_encoder, random_llm

import_lmms_eval()

from mordal_optuna.evaluation.model import MordalVLM  # noqa: E402 - after the guarded import
from mordal_optuna.evaluation.questions import Reply  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path

    from mordal_optuna.alignment.data import AlignmentSet
    from mordal_optuna.config import AlignmentSettings
    from mordal_optuna.evaluation.task import Task

QUESTIONS = ("What color is the circle?", "Where?", "How many things are there in all, I wonder?")
COLORS = ("red", "green", "blue")


def requests(options: list[dict[str, Any]], *, images: bool = True) -> tuple[list[Any], dict]:  # type: ignore[type-arg]
    """One request per question, as lmms-eval builds them, and the documents."""

    def to_messages(doc: dict[str, Any]) -> list[dict[str, Any]]:
        parts: list[dict[str, Any]] = [{"type": "text", "text": doc["question"]}]
        if images:
            picture = Image.new("RGB", (32, 32), doc["color"])
            parts.insert(0, {"type": "image", "url": picture})
        return [{"role": "user", "content": parts}]

    documents = [{"question": q, "color": c} for q, c in zip(QUESTIONS, COLORS, strict=True)]
    made = [
        SimpleNamespace(args=("", to_messages, chosen, n, "t", "test"), task_name="t")
        for n, chosen in enumerate(options)
    ]
    return made, {"t": {"test": documents}}


def answers(vlm: Vlm, batch_size: int, options: list[dict[str, Any]], **kind: bool) -> list[str]:
    model = MordalVLM.from_live(vlm.model, vlm.processor, tasks=())
    model.batch_size = batch_size
    made, model.task_dict = requests(options, **kind)
    return [result.text for result in model.generate_until(made)]


def test_a_batch_answers_as_one_by_one(vlm: Vlm) -> None:
    """Prompts of different lengths: padding on the right, or no mask, would change them."""
    options = [{"max_new_tokens": 12}] * 3
    together, alone = answers(vlm, 3, options), answers(vlm, 1, options)
    assert together == alone
    assert len(set(alone)) > 1 or len(alone[0]) > 0


def test_each_request_gets_its_own_arguments_and_keeps_its_place(vlm: Vlm) -> None:
    short, long = {"max_new_tokens": 1}, {"max_new_tokens": 12}
    mixed = answers(vlm, 3, [short, long, short])
    alone = [answers(vlm, 1, [o] * 3)[n] for n, o in enumerate([short, long, short])]
    assert mixed == alone


def test_stop_strings_cut_the_answer(vlm: Vlm) -> None:
    whole = answers(vlm, 1, [{"max_new_tokens": 12}] * 3)[0]
    assert len(whole) > 2
    stop = whole[2]
    cut = answers(vlm, 1, [{"max_new_tokens": 12, "until": [stop]}] * 3)[0]
    assert cut == whole.split(stop)[0].strip()


def test_an_answer_that_reached_a_stop_string_is_not_cut() -> None:
    """The model may have written more after the stop string, up to the token limit."""
    answer = Answer("red\n\nAnd then", 4, cut=True, likelihood=None)
    assert Reply.of(answer, []).cut
    assert Reply.of(answer, ["?"]).cut
    assert not Reply.of(answer, ["\n\n"]).cut


def test_documents_without_pictures_are_answered(vlm: Vlm) -> None:
    options = [{"max_new_tokens": 4}] * 3
    assert answers(vlm, 3, options, images=False) == answers(vlm, 1, options, images=False)


def test_memory_that_runs_out_halves_the_batch(vlm: Vlm, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answers are those of one by one; one document that does not fit is named."""
    options = [{"max_new_tokens": 12}] * 3
    expected = answers(vlm, 1, options)
    forward, rows = vlm.model.forward, []

    def limited(**given: Any) -> Any:
        rows.append(len(given["input_ids"]))
        if rows[-1] > limit:
            raise torch.OutOfMemoryError
        return forward(**given)

    monkeypatch.setattr(vlm.model, "forward", limited)
    limit = 1
    assert answers(vlm, 3, options) == expected
    assert rows[0] == 3
    assert set(rows[1:]) == {1}
    limit = 0
    with pytest.raises(EvaluationError, match="evaluation on 't': document 0 alone"):
        answers(vlm, 2, options)


def test_what_is_not_offered_is_refused(vlm: Vlm) -> None:
    model = MordalVLM.from_live(vlm.model, vlm.processor, tasks=())
    made, _ = requests([{}] * 3)
    with pytest.raises(EvaluationError, match="asks for loglikelihood"):
        model.loglikelihood(made)


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be loaded.*LLaVA-style"):
        MordalVLM(pretrained=str(tmp_path / "none"))


def test_an_export_that_llavas_class_cannot_compute_is_loaded_by_ours(
    tmp_path: Path, cpu: torch.device
) -> None:
    """Its own copy of the code is not run."""
    parts = random_encoder(tmp_path, "dinov2-registers"), random_llm(tmp_path, "llama")
    vlm = assemble(*parts, lora=None, precision="fp32", seed=0, device=cpu)
    export(vlm, tmp_path / "model", ModelCard(*parts, 16, "test data", "digest", 0, {}))
    loaded = MordalVLM(pretrained=str(tmp_path / "model"), device="cpu")
    assert type(loaded.model) is PatchLlavaForConditionalGeneration
    weights = vlm.model.state_dict()
    assert all(torch.equal(value, weights[n]) for n, value in loaded.model.state_dict().items())


def through_the_command_line(
    tmp_path: Path, zoo: Path, pretrained: Path, launcher: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Results of `python -m lmms_eval` on the task `mordal_scenes`."""
    # The YAML's default data folder is relative to the current directory.
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "zoo").symlink_to(zoo)
    command = [
        *(sys.executable, "-m", *launcher, "lmms_eval", "--model", "mordal_vlm"),
        *("--model_args", f"pretrained={pretrained},device=cpu"),
        *("--tasks", "mordal_scenes", "--include_path", str(shipped("tasks"))),
        *("--batch_size", "4", "--output_path", str(tmp_path / "out")),
    ]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, check=True, capture_output=True, timeout=170
    )
    # It exits with 0 on failure too: only its results count.
    files = list((tmp_path / "out").rglob("*_results.json"))
    assert len(files) == 1, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(files[0].read_text())["results"]["mordal_scenes"]
    return found


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_an_export_scores_the_same_through_lmms_evals_own_command_line(
    vlm: Vlm, scenes: Task, zoo: Path, tmp_path: Path
) -> None:
    (live,) = score(vlm.model, vlm.processor, [scenes]) or ()
    source = ModelSource("part", "owner/part")
    card = ModelCard(source, source, 16, "test data", "digest", 0, {})
    export(copy.deepcopy(vlm), tmp_path / "model", card)
    found = through_the_command_line(tmp_path, zoo, tmp_path / "model")
    assert found["exact_match,none"] == live.value


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_checkpoint_scores_the_same_on_two_processes(
    scenes: Task, zoo: Path, tmp_path: Path, settings: AlignmentSettings, data: AlignmentSet
) -> None:
    """Given by its folder only; its models are loaded from the study file's locations."""
    session = AlignmentSession(
        ModelSource("clip", str(zoo / "encoders" / "clip-t")),
        ModelSource("llama", str(zoo / "llms" / "llama-t")),
        settings=settings,
        seed=0,
        data=data,
        checkpoints=CheckpointStore(tmp_path / "checkpoints"),
        machine=Machine(torch.device("cpu")),
    )
    session.advance(64, Silent())
    (live,) = score(session.vlm.model, session.vlm.processor, [scenes]) or ()
    (run,) = CheckpointFiles(tmp_path / "checkpoints").runs()
    launcher = ("torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m")
    found = through_the_command_line(
        tmp_path, zoo, tmp_path / "checkpoints" / run / "64", launcher
    )
    assert found["exact_match,none"] == live.value
