"""Whole reports: a clean study passes, five seeded faults are found, and nothing is written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from PIL import Image

from mordal_optuna.alignment.conversation import IGNORED, Conversations
from mordal_optuna.doctor.examine import examine, pairs_of
from mordal_optuna.errors import ConfigError
from mordal_optuna.models import towers
from mordal_optuna.models.families import vision_family
from mordal_optuna.pool import Candidate
from tests.chat_studies import chat_study
from tests.doctor.reports import failures, report_of, verdict
from tests.families.chats import CHATS

pytestmark = pytest.mark.slow

TWO = ("llama-3.2-instruct", "qwen2.5-instruct")
# Writes the header of an answer, but does not ask for the answer behind it.
NO_PROMPT = (
    "{{ bos_token }}{% for m in messages %}{{ m.role | upper }}: {{ m.content }}"
    "{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
)
NO_END = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"


def state(folder: Path) -> dict[str, int]:
    """Files below a folder and the times of their last change, without Python's own caches."""
    files = (p for p in folder.rglob("*") if p.is_file() and p.parent.name != "__pycache__")
    return {str(p): p.stat().st_mtime_ns for p in files}


def test_a_clean_study_passes_and_nothing_is_written(tmp_path: Path) -> None:
    """Every check of every model is made: on conversations of several turns, in bf16."""
    content = chat_study(tmp_path, TWO)
    before = state(tmp_path)
    report = report_of(content)
    found = {(f.subject, f.check): f.verdict for f in report.findings}
    assert failures(report) == {}
    assert {key for key, one in found.items() if one.outcome != "ok"} == {
        ("clip", "images"),  # all samples show the same picture
        ("study", "settings"),  # a full alignment is 24 steps
    }
    assert len(found) == len(report.findings) == 2 + 2 + 5 + 2 * 10 + 2 * 5
    assert found["clip + llama-3.2-instruct", "loss"].text.endswith("in 20 steps of 4 samples")
    assert "of up to 12 turns come back" in found["qwen2.5-instruct", "template"].text
    assert "scores" in found["clip + qwen2.5-instruct", "answer"].text
    assert state(tmp_path) == before


@pytest.mark.long
def test_a_clean_study_of_the_tiny_pool_passes(study_content: dict[str, Any]) -> None:
    """Two encoders, two LLMs and two tasks: each model is in one pair."""
    report = report_of(study_content)
    assert failures(report) == {}
    assert not report.count("skipped")
    pairs = {f.subject for f in report.findings if len(f.models) == 2}
    assert pairs == {"clip-t + llama-t", "dinov2-t + mistral-t"}
    text = verdict(report, "dinov2-t", "tokens").text
    assert text == "16 tokens of width 32 an image, as its configuration promises"


def test_a_wrong_template_is_found(tmp_path: Path) -> None:
    content = chat_study(tmp_path, TWO)
    content["pool"]["llms"][0]["chat_template"] = NO_PROMPT
    found = failures(report_of(content))
    assert ("llama-3.2-instruct", "template") in found
    assert {subject for subject, _ in found} == {"llama-3.2-instruct"}


@pytest.mark.parametrize("layer", [0, 9])
def test_a_wrong_feature_layer_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layer: int
) -> None:
    content = chat_study(tmp_path, TWO[:1])

    def wrong(name: str, config: Any) -> Any:  # noqa: ANN401
        return replace(vision_family(name, config), feature_layer=layer)

    monkeypatch.setattr(towers, "vision_family", wrong)
    found = failures(report_of(content, ["clip"]))
    assert f"hidden state {layer}" in found["clip", "layer"]


def test_padding_that_masks_the_stop_token_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = chat_study(tmp_path, TWO[:1])
    source = replace(CHATS["vicuna-1.5"], pad="</s>").save(tmp_path / "more")
    content["pool"]["llms"] = [{"name": "vicuna", "location": source.location}]
    assert failures(report_of(content, ["vicuna"])) == {}
    expand = Conversations.expand

    def masked(self: Conversations, encoded: Any) -> tuple[np.ndarray, np.ndarray]:  # noqa: ANN401
        ids, labels = expand(self, encoded)
        return ids, np.where(ids == self._tokenizer.pad_token_id, IGNORED, labels)

    monkeypatch.setattr(Conversations, "expand", masked)
    found = failures(report_of(content, ["vicuna"]))
    assert set(found) == {("vicuna", "padding"), ("vicuna", "stop")}


def test_cut_answers_are_found(tmp_path: Path) -> None:
    """By `max_length` in the training, and by the task's `max_new_tokens` in the scoring."""
    content = chat_study(tmp_path, TWO[:1])
    task = Path(content["task_folders"][0]) / "my_task.yaml"
    text = task.read_text().replace("doc_to_target: answer", 'doc_to_target: "{{answer}} {{id}}"')
    task.write_text(text.replace("max_new_tokens: 12", "max_new_tokens: 2"))
    content["alignment"]["max_length"] = 40
    found = failures(report_of(content, TWO[:1]))
    llm = TWO[0]
    assert "lose the end of their answer" in found[llm, "length"]
    assert "reference answers takes 3 of 2 tokens, 4 are longer" in found[llm, "answers"]


def test_a_stop_token_that_is_never_trained_is_found(tmp_path: Path) -> None:
    content = chat_study(tmp_path, TWO)
    content["pool"]["llms"][1]["chat_template"] = NO_END
    found = failures(report_of(content))
    assert "generation stops at" in found["qwen2.5-instruct", "stop"]
    assert "it would never learn to stop" in found["clip + qwen2.5-instruct", "joins"]
    assert not [subject for subject, _ in found if "llama" in subject]


def test_models_that_do_not_load_are_reported_and_the_rest_goes_on(tmp_path: Path) -> None:
    content = chat_study(tmp_path, TWO)
    config = Path(content["pool"]["llms"][0]["location"]) / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "model_type": "mamba"}))
    gone = {"name": "gone", "location": str(tmp_path / "gone")}
    content["pool"]["vision_encoders"].append(gone)
    report = report_of(content)
    found = failures(report)
    assert set(found) == {("gone", "loads"), ("llama-3.2-instruct", "weights")}
    assert "it must be an existing local folder" in found["gone", "loads"]
    assert verdict(report, "gone", "layer").outcome == "skipped"
    assert verdict(report, "clip + qwen2.5-instruct", "loss").outcome == "ok"


def test_data_and_tasks_that_cannot_be_read_are_reported(tmp_path: Path) -> None:
    """The models are loaded all the same."""
    content = chat_study(tmp_path, TWO[:1])
    content["alignment"]["conversations"] = str(tmp_path / "nothing.json")
    content["task"]["name"] = "other_task"
    report = report_of(content)
    assert set(failures(report)) == {("study", "data"), ("other_task", "task")}
    assert verdict(report, TWO[0], "weights").outcome == "ok"
    assert verdict(report, f"clip + {TWO[0]}", "loss").outcome == "skipped"


def test_a_stream_is_read_as_far_as_it_is_needed(tmp_path: Path) -> None:
    content = chat_study(tmp_path, TWO[:1])
    picture = Image.open(tmp_path / "images" / "red.png")
    rows = [
        {
            "messages": [
                {"role": "user", "content": "What?"},
                {"role": "assistant", "content": "red"},
            ],
            "images": [picture],
        }
    ] * 64
    Dataset.from_list(rows).to_parquet(tmp_path / "rows" / "train.parquet")
    kept = {k: v for k, v in content["alignment"].items() if k not in ("conversations", "images")}
    stream = {"path": str(tmp_path / "rows"), "streaming": True}
    report = report_of({**content, "alignment": {**kept, "dataset": stream, "samples": 64}})
    assert failures(report) == {}
    text = verdict(report, "study", "data").text
    assert text == "64 samples of a stream, of which 64 were read"
    assert verdict(report, "clip", "layer").outcome == "ok"
    assert "in 16 steps of 4" in verdict(report, f"clip + {TWO[0]}", "loss").text


@pytest.mark.parametrize(("value", "outcome"), [(0.0, "failed"), (0.25, "warning"), (0.6, "ok")])
def test_a_task_that_cannot_read_its_own_answers_is_found(
    tmp_path: Path, value: float, outcome: str
) -> None:
    content = chat_study(tmp_path, TWO[:1])
    utils = Path(content["task_folders"][0]) / "utils.py"
    judge = f"\ndef judge(doc, results):\n    return {{'exact_match': {value}}}\n"
    utils.write_text(utils.read_text() + judge)
    task = utils.with_name("my_task.yaml")
    task.write_text(task.read_text() + "process_results: !function utils.judge\n")
    found = verdict(report_of(content, ["clip"]), "my_task", "references")
    assert found.outcome == outcome
    assert f"its own reference answers score {value:.2f} (4 documents)" in found.text


def test_one_model_alone_can_be_checked(tmp_path: Path) -> None:
    """Its pair takes the first model of the other kind, which is not checked itself."""
    content = chat_study(tmp_path, TWO)
    report = report_of(content, [TWO[1]])
    models = [f.subject for f in report.findings if f.models]
    assert set(models) == {TWO[1], f"clip + {TWO[1]}"}
    assert "with images of 16" in verdict(report, TWO[1], "length").text
    with pytest.raises(ConfigError, match=f"--only: got 'x'; the pool has clip, {TWO[0]}"):
        report_of(content, ["x"])


def test_a_pool_that_is_not_built_is_refused(study_content: dict[str, Any]) -> None:
    from mordal_optuna.config import parse_study
    from mordal_optuna.progress import Silent

    folder = f"{study_content['workdir']}-zoo"
    content = {**study_content, "zoo": {"recipe": "tiny", "folder": folder}}
    with pytest.raises(ConfigError, match="lacks 14 parts, such as .*; `mordal run` builds"):
        examine(parse_study(content), Silent())
    assert not Path(folder).exists()


def test_every_model_is_in_a_pair() -> None:
    assert pairs_of(["a", "b"], ["x", "y", "z"]) == [
        Candidate("a", "x"),
        Candidate("b", "y"),
        Candidate("a", "z"),
    ]
    assert pairs_of(["a", "b"], ["x"]) == [Candidate("a", "x"), Candidate("b", "x")]
    assert pairs_of([], ["x"]) == []
