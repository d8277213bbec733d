"""Scores: upstream's code, per-document values, and no side effects on the process."""

from __future__ import annotations

import math
import os
import random
import subprocess
import sys
import warnings
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from datasets import Image
from loguru import logger
from PIL import ImageFile

from mordal_optuna.errors import EvaluationError, TaskError
from mordal_optuna.evaluation.guards import import_lmms_eval
from mordal_optuna.evaluation.metric import MetricSpec
from mordal_optuna.evaluation.score import _parsed, plugin_problem, score, show_answer
from tests.evaluation.seven import SEVEN, built, score_answers

if TYPE_CHECKING:
    from pathlib import Path

    from mordal_optuna.evaluation.task import Task
    from mordal_optuna.models.assemble import Vlm


def test_our_own_task_ignores_case_alone(scenes: Task) -> None:
    assert score_answers(scenes, lambda doc: doc["answer"].upper()).value == 1.0
    assert score_answers(scenes, lambda doc: f"a {doc['answer']}").value == 0.0


def test_values_belong_to_their_documents(scenes: Task) -> None:
    """Exactly the first three documents answered right."""
    right = {scenes.live.dataset["test"][n]["id"] for n in range(3)}
    found = score_answers(scenes, lambda doc: doc["answer"] if doc["id"] in right else "?")
    assert found.per_document == (1.0,) * 3 + (0.0,) * 13


def test_a_live_model_is_scored_with_its_standard_error(vlm: Vlm, scenes: Task) -> None:
    (found,) = score(vlm.model, vlm.processor, [scenes]) or ()
    assert found.documents == len(found.per_document) == 16
    assert found.value == pytest.approx(np.mean(found.per_document))
    expected = np.std(found.per_document, ddof=1) / math.sqrt(16)
    assert found.stderr == pytest.approx(expected)
    assert found.seconds > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", SEVEN)
def test_one_answer_is_shown_as_the_task_read_it(vlm: Vlm, tmp_path: Path, name: str) -> None:
    """With the value that a whole evaluation gives it; the task keeps all of its documents."""
    task = built(name, tmp_path)
    shown = show_answer(vlm.model, vlm.processor, task)
    (whole,) = score(vlm.model, vlm.processor, [task]) or ()
    place = task.documents.index(shown.document)
    assert shown.document == task.order[0]
    assert shown.value == whole.per_document[place]
    assert shown.cut == (whole.cut == 1.0) or 0 < (whole.cut or 0) < 1
    assert whole.documents == len(task.documents) > 1
    if not task.spec.guesses:
        assert not shown.guessed


def test_what_a_task_reports_of_an_answer_goes_before_its_filters(scenes: Task) -> None:
    """MMMU reports what it read, in a list; filters give a text or a list of texts."""
    key = scenes.spec.document_key
    for value, filtered, read in (
        (1.0, ["red"], "red"),
        (1.0, [["red"]], "red"),
        (0.0, [], ""),
        ({"parsed_pred": ["B"]}, ["the answer is B"], "B"),
        ({"parsed_pred": [["4", 4.0]]}, ["four: 4"], "4"),
        ({"id": 1}, ["red"], "red"),
    ):
        assert _parsed({key: value, "filtered_resps": filtered}, scenes) == read


def test_answers_that_say_nothing_are_counted(vlm: Vlm, scenes: Task) -> None:
    """Empty ones and equal ones, of all documents; looked-up answers are never cut."""
    answers = iter(["red", "", " ", "red", "red", *"abcdefghijk"])
    found = score_answers(scenes, lambda _: next(answers))
    assert (found.empty, found.alike, found.cut) == (2 / 16, 3 / 16, 0.0)
    (live,) = score(vlm.model, vlm.processor, [scenes]) or ()
    assert live.cut is not None
    assert live.cut > 0.5  # a model that was hardly trained knows no end


def test_nothing_is_left_behind(
    vlm: Vlm, scenes: Task, capsys: pytest.CaptureFixture[str]
) -> None:
    """Random states, modes, warnings filters, sinks, process-group timeout; no Accelerator.

    Nor does importing lmms-eval let PIL read images that are cut off.
    """
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    from accelerate.state import AcceleratorState

    sink: list[str] = []
    handle = logger.add(sink.append)
    vlm.model.train()
    vlm.model.model.vision_tower.eval()
    before = (
        random.getstate(),
        np.random.get_state()[1].tolist(),  # noqa: NPY002
        torch.random.get_rng_state().tolist(),
        warnings.filters[:],
        torch.distributed.distributed_c10d.default_pg_timeout,
        dict(AcceleratorState._shared_state),
        [module.training for module in vlm.model.modules()],
    )
    score(vlm.model, vlm.processor, [scenes])
    after = (
        random.getstate(),
        np.random.get_state()[1].tolist(),  # noqa: NPY002
        torch.random.get_rng_state().tolist(),
        warnings.filters[:],
        torch.distributed.distributed_c10d.default_pg_timeout,
        dict(AcceleratorState._shared_state),
        [module.training for module in vlm.model.modules()],
    )
    assert before == after
    assert vlm.model.lm_head is not None  # lmms-eval deletes a model's modules unless told not to
    assert capsys.readouterr().out == ""
    logger.info("still here")
    assert any("still here" in line for line in sink)
    logger.remove(handle)
    vlm.model.eval()


def test_a_metric_that_is_not_there_is_refused_with_those_that_are(vlm: Vlm, scenes: Task) -> None:
    wrong = replace(scenes, spec=MetricSpec(metric="anls,none"))
    with pytest.raises(TaskError, match="'anls,none'; its results have exact_match,none"):
        score(vlm.model, vlm.processor, [wrong])


@pytest.mark.parametrize("error", [RuntimeError("no such shape"), ValueError("no such key")])
def test_what_fails_inside_lmms_eval_is_the_candidates_evaluation(
    vlm: Vlm, scenes: Task, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise error

    import_lmms_eval()
    monkeypatch.setattr("lmms_eval.evaluator.evaluate", broken)
    with pytest.raises(EvaluationError, match="'mordal_scenes': lmms-eval failed .*no such"):
        score(vlm.model, vlm.processor, [scenes])


def test_a_model_that_fails_gives_no_score(
    vlm: Vlm, scenes: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The documents are named; nothing becomes an empty answer."""

    def broken(**_: object) -> None:
        raise RuntimeError("device lost")

    monkeypatch.setattr(vlm.model, "forward", broken)
    with pytest.raises(EvaluationError, match=r"documents \[0, 1, 2, 3, .*device lost"):
        score(vlm.model, vlm.processor, [scenes])


def test_the_plugin_is_found_by_lmms_eval() -> None:
    assert plugin_problem() is None


@pytest.mark.slow
def test_a_broken_plugin_that_hides_ours_is_named(tmp_path: Path) -> None:
    """Another package's, found before ours, as lmms-eval meets it."""
    metadata = tmp_path / "broken-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[lmms_eval.models]\nodd = nowhere.at:all\n")
    asked = "from mordal_optuna.evaluation.score import plugin_problem; print(plugin_problem())"
    paths = os.pathsep.join([str(tmp_path), os.getcwd()])  # noqa: PTH109 - a search path
    done = subprocess.run(
        [sys.executable, "-c", asked],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    assert "'odd' of the package 'broken' cannot be loaded" in done.stdout


def test_tasks_are_scored_together_as_alone(vlm: Vlm, scenes: Task, tmp_path: Path) -> None:
    """In one pass over one loaded model; MMMU's draws for answers it cannot read included."""
    tasks = [scenes, *(built(name, tmp_path) for name in ("mmmu_val", "gqa", "chartqa"))]
    together = score(vlm.model, vlm.processor, tasks) or ()
    assert [found.task for found in together] == [task.name for task in tasks]
    assert together[1].guessed
    for task, found in zip(tasks, together, strict=True):
        (alone,) = score(vlm.model, vlm.processor, [task]) or ()
        assert found.per_document == alone.per_document
        assert found.likelihoods == pytest.approx(alone.likelihoods, rel=1e-4)


def test_a_pass_is_paid_for_once(vlm: Vlm, scenes: Task, tmp_path: Path) -> None:
    """The tasks' seconds add up to what the pass took."""
    tasks = [scenes, built("gqa", tmp_path)]
    start = perf_counter()
    found = score(vlm.model, vlm.processor, tasks) or ()
    took = perf_counter() - start
    assert 0.5 * took < sum(s.seconds for s in found) <= took
    assert min(s.seconds for s in found) > 0


def test_no_picture_is_decoded_that_is_not_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two documents of four, each once, when it is read; lmms-eval looks at one at the start."""
    decoded: list[object] = []
    decode = Image.decode_example

    def counted(self: Image, value: object, *given: object, **options: object) -> object:
        decoded.append(value)
        return decode(self, value, *given, **options)

    monkeypatch.setattr(Image, "decode_example", counted)
    task = built("ai2d", tmp_path, documents=2)
    assert len(decoded) == 1
    decoded.clear()
    score_answers(task, lambda doc: "ABCD"[int(doc["answer"])])
    assert len(decoded) == 2
