"""Whole studies whose inputs change in place: old and new scores are never mixed."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
import pytest
from datasets import Dataset
from optuna.trial import TrialState
from PIL import Image
from safetensors.torch import load_file, save_file

from mordal_optuna.alignment.train import Trainer
from mordal_optuna.config import parse_study
from mordal_optuna.config.shipped import shipped
from mordal_optuna.driver import run_study
from mordal_optuna.errors import InputsChangedError, TaskError
from mordal_optuna.evaluation.score import score
from mordal_optuna.progress import Silent
from mordal_optuna.search.attributes import FAILURE, RUNGS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mordal_optuna.config import StudySettings
    from mordal_optuna.search.curves import Measurement


@pytest.fixture
def own_zoo(zoo: Path, tmp_path: Path) -> Path:
    """A copy of the tiny pool that tests change, with a copy of its task named `own`."""
    shutil.copytree(zoo, tmp_path / "zoo")
    shutil.copytree(shipped("tasks") / "mordal_scenes", tmp_path / "zoo" / "own")
    yaml = tmp_path / "zoo" / "own" / "mordal_scenes.yaml"
    text = yaml.read_text().replace("task: mordal_scenes", "task: own")
    yaml.unlink()
    yaml.with_name("own.yaml").write_text(text)
    return tmp_path / "zoo"


@pytest.fixture
def content(study_content: dict[str, Any], zoo: Path, own_zoo: Path) -> dict[str, Any]:
    """A study of one encoder and two LLMs of the copy, trained on 16 samples each."""
    text = json.dumps(study_content).replace(str(zoo), str(own_zoo))
    content: dict[str, Any] = json.loads(text)
    del content["pool"]["vision_encoders"][1]
    content["alignment"]["samples"] = 16
    return content | {
        "search": {"method": "grid", "first_ratio": 0.5, "max_ratio": 1.0},
        "task": content["task"] | {"name": "own"},
        "task_folders": [str(own_zoo / "own")],
        "also_score": [],
    }


class AfterScores(Silent):
    """Calls a function once a number of scores was reported; scores are stored afterwards."""

    def __init__(self, scores: int, action: Callable[[], object]) -> None:
        self.left, self.action = scores, action

    def note(self, text: str) -> None:
        """Count scores."""
        self.left -= " samples: " in text
        if self.left == 0:
            self.left = -1
            self.action()


def interrupt() -> None:
    raise KeyboardInterrupt


def conversations(zoo: Path) -> None:
    path = zoo / "alignment" / "alignment.json"
    path.write_text(path.read_text().replace("is", "was"))


def image(zoo: Path) -> None:
    for path in (zoo / "alignment" / "images").iterdir():
        Image.new("RGB", (32, 32), "pink").save(path)


def prompt(zoo: Path) -> None:
    path = zoo / "own" / "own.yaml"
    path.write_text(path.read_text().replace("max_new_tokens: 4", "max_new_tokens: 3"))


def code(zoo: Path) -> None:
    path = zoo / "own" / "utils.py"
    path.write_text(path.read_text().replace("return text", "return text.lower()"))


def documents(zoo: Path) -> None:
    (path,) = (zoo / "tasks" / "scenes").rglob("*.parquet")
    rows = Dataset.from_parquet(str(path))
    rows.map(lambda row: {"question": row["question"] + "!"}).to_parquet(path)


def weights(zoo: Path) -> None:
    path = zoo / "encoders" / "clip-t" / "model.safetensors"
    tensors = load_file(path)
    tensors[sorted(tensors)[0]] += 1e-3
    save_file(tensors, path, {"format": "pt"})


def template(zoo: Path, llm: str = "llama-t") -> None:
    path = zoo / "llms" / llm / "chat_template.jinja"
    path.write_text("{% for m in messages %}{{ m['content'] }}{{ eos_token }}{% endfor %}")


CHANGES = {
    conversations: "the alignment data (alignment.json)",
    image: "the alignment data (its images)",
    prompt: "the task own (its prompt)",
    code: "the task own (utils.py)",
    documents: "the task own (its documents)",
    weights: "the weights of clip-t",
    template: "the chat template of llama-t",
}


def restore(folder: Path, contents: dict[Path, bytes]) -> None:
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        if path not in contents:
            path.unlink()
        elif path.read_bytes() != contents[path]:
            path.write_bytes(contents[path])


def count_scores(settings: StudySettings) -> int:
    study = optuna.load_study(study_name=settings.study, storage=settings.storage_url())
    assert not [t for t in study.trials if FAILURE in t.user_attrs]
    return sum(len(trial.user_attrs.get(RUNGS, {})) for trial in study.trials)


@pytest.mark.slow
def test_an_input_changed_between_two_starts_is_named(
    content: dict[str, Any], own_zoo: Path
) -> None:
    """Nothing is trained or stored; once the input is restored, the study runs to its end."""
    settings = parse_study(content)
    with pytest.raises(KeyboardInterrupt):
        run_study(settings, AfterScores(2, interrupt))
    scores = count_scores(settings)
    assert scores > 0
    for change, words in CHANGES.items():
        contents = {path: path.read_bytes() for path in own_zoo.rglob("*") if path.is_file()}
        change(own_zoo)
        with pytest.raises(InputsChangedError) as caught:
            run_study(settings, Silent())
        assert [str(c) for c in caught.value.changes] == [words]
        assert f"reusing {'the checkpoints of ' * ('task' in words)}" in str(caught.value)
        assert count_scores(settings) == scores
        restore(own_zoo, contents)
    result = run_study(settings, Silent())
    assert {e.provenance for e in result.ranking} == {"measured"}
    assert len(result.ranking) == 2


@pytest.mark.slow
@pytest.mark.parametrize("change", [image, template, code], ids=lambda change: change.__name__)
def test_an_input_changed_during_a_study_stops_it(
    content: dict[str, Any], own_zoo: Path, change: Callable[[Path], None]
) -> None:
    """Before the next rung that needs the input; no candidate counts as failed."""
    settings = parse_study(content)
    with pytest.raises(InputsChangedError) as caught:
        run_study(settings, AfterScores(1, lambda: change(own_zoo)))
    assert [str(c) for c in caught.value.changes] == [CHANGES[change]]
    assert "`--as tiny-2`" in str(caught.value)
    study = optuna.load_study(study_name="tiny", storage=settings.storage_url())
    assert count_scores(settings) == 1
    assert study.trials[-1].state == TrialState.FAIL
    assert "mordal:interrupted" in study.trials[-1].user_attrs


@pytest.mark.slow
def test_an_input_changed_while_a_rung_is_trained_leaves_no_checkpoint(
    content: dict[str, Any], own_zoo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint would be stored under the address of the old data."""
    run = Trainer.run

    def changing(self: Trainer, *given: Any) -> None:
        run(self, *given)
        image(own_zoo)

    monkeypatch.setattr(Trainer, "run", changing)
    settings = parse_study(content)
    with pytest.raises(InputsChangedError):
        run_study(settings, Silent())
    assert not list(Path(settings.checkpoint_folder()).rglob("checkpoint*.json"))


def unspent(points: Sequence[Measurement]) -> list[Measurement]:
    """Measurements without the costs of this study."""
    return [replace(point, train_spent=None, eval_spent=None) for point in points]


@pytest.mark.slow
def test_under_another_name_only_affected_rungs_are_computed_again(
    content: dict[str, Any], own_zoo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of two LLMs changed: the other's rungs are reused. The prompt: rungs are only scored."""
    trained: list[int] = []
    answered: list[int] = []
    run = Trainer.run

    def noted(self: Trainer, until: int, *given: Any) -> None:
        if until > self.samples:
            trained.append(until)
        run(self, until, *given)

    def counted(*given: Any, **options: Any) -> Any:
        answered.append(len(given[2]))
        return score(*given, **options)

    monkeypatch.setattr(Trainer, "run", noted)
    monkeypatch.setattr("mordal_optuna.workbench.align_and_score.score", counted)
    whole = run_study(parse_study(content), Silent())
    rungs = (len(trained), len(answered))
    trained.clear()
    answered.clear()
    template(own_zoo, "mistral-t")
    second = run_study(parse_study(content | {"study": "tiny-2"}), Silent())
    assert (2 * len(trained), 2 * len(answered)) == rungs
    same = next(c for c in whole.curves if c.llm == "llama-t")
    # reused scores cost nothing
    assert unspent(second.curves[same]) == unspent(whole.curves[same])
    assert second.costs.reused > 0
    trained.clear()
    answered.clear()
    prompt(own_zoo)
    run_study(parse_study(content | {"study": "tiny-3"}), Silent())
    assert (len(trained), len(answered)) == (0, rungs[1])


@pytest.mark.slow
def test_a_start_that_fails_before_any_rung_stores_no_settings(content: dict[str, Any]) -> None:
    """The study file can be corrected under the same name, batch size included."""
    wrong = content | {"task": {"name": "nope"}}
    with pytest.raises(TaskError):
        run_study(parse_study(wrong), Silent())
    content["alignment"]["batch_size"] = 4
    assert run_study(parse_study(content), Silent()).config["alignment"]["batch_size"] == 4
