"""The guide for adding a benchmark, followed literally."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from datasets import Features, Image, List

from mordal_optuna.config import TaskSettings
from mordal_optuna.evaluation.tasks import build_task
from tests.commands import run
from tests.evaluation.seven import COLORS, TEXT, picture, save, score_answers
from tests.evaluation.test_values import mme

if TYPE_CHECKING:
    from mordal_optuna.evaluation.task import Task

GUIDE = Path(__file__).parents[2] / "docs" / "add-a-benchmark.md"
BLOCK = re.compile(r"`([\w/.-]+)`:\n\n```\w+\n(.*?)```", re.DOTALL)


def files() -> dict[str, str]:
    """Content of each file that the guide shows, by its path."""
    return dict(BLOCK.findall(GUIDE.read_text(encoding="utf-8")))


def write(folder: Path, *names: str) -> None:
    """Files of the guide in an empty folder, all by default."""
    for name, content in files().items():
        if not names or name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(content, encoding="utf-8")


def test_the_files_of_the_guide_are_all_found() -> None:
    assert list(files()) == [
        "make_data.py",
        *(f"benchmarks-of-mine/{name}" for name in ("signs.yaml", "utils.py")),
        "study.yaml",
        *(f"benchmarks-of-mine/{name}.yaml" for name in ("pope", "textvqa_val", "mme")),
    ]


@pytest.mark.slow
def test_the_guide_works_in_an_empty_folder(tmp_path: Path) -> None:
    """Its files under their names, and its commands, to the winner; with the line about images."""
    write(tmp_path)
    text = GUIDE.read_text(encoding="utf-8")
    (commands,) = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    printed = ""
    for line in commands.splitlines():
        words = line.split()
        assert words[0] in ("python", "mordal")
        module = ["-m", "mordal_optuna"] if words[0] == "mordal" else []
        printed += run([*module, *words[1:]], tmp_path)
    assert "signs: 3 different images are too few to compare models on; 16 images" in printed
    assert "winner" in printed
    assert (tmp_path / "runs" / "signs" / "signs.html").is_file()


def test_the_guides_benchmark_is_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its data, its YAML and its study file, as they stand there."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path)
    run(["make_data.py"], tmp_path)
    study_file = yaml.safe_load(files()["study.yaml"])
    folders = [Path(folder) for folder in study_file["task_folders"]]
    task = build_task(TaskSettings(**study_file["task"]), folders, seed=0)
    assert (task.spec.chance, task.spec.cluster_key) == (0.33, "sign")
    found = score_answers(task, lambda doc: doc["answer"].upper())
    assert (found.value, found.documents, found.clusters) == (1.0, 6, (0, 0, 1, 1, 2, 2))
    (message,) = task.live.doc_to_messages(task.live.dataset["test"][0])
    text = "What color is the sign?\nAnswer with one word."
    assert [part["type"] for part in message["content"]] == ["image", "text"]
    assert message["content"][1]["text"] == text


def test_every_key_of_the_table_is_one_of_the_metadata() -> None:
    from mordal_optuna.evaluation.metric import MetricSpec

    text = GUIDE.read_text(encoding="utf-8")
    keys = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
    assert set(keys) == set(MetricSpec.model_fields) - {"guesses"}


def pope(folder: Path) -> Path:
    rows = [
        {
            "question_id": str(n),
            "question": f"Is there a {COLORS[n % 4]}?",
            "answer": "yes" if n % 2 else "no",
            "image": picture(n // 2),
            "category": "random",
        }
        for n in range(4)
    ]
    names = ("question_id", "question", "answer", "category")
    features = Features({"image": Image(), **dict.fromkeys(names, TEXT)})
    return save(folder, {("default", "test"): (rows, features)})


def textvqa(folder: Path) -> Path:
    rows: list[dict[str, Any]] = [
        {
            "question_id": str(n),
            "question": "what does it say?",
            "answers": [COLORS[n]] * 10,
            "image": picture(n),
        }
        for n in range(4)
    ]
    features = Features(
        {"image": Image(), "answers": List(TEXT), "question_id": TEXT, "question": TEXT}
    )
    return save(folder, {("default", "validation"): (rows, features)})


RECIPES = {
    "pope": (pope, lambda doc: doc["answer"], (0, 0, 1, 1)),
    "textvqa_val": (textvqa, lambda doc: doc["answers"][0], (0, 1, 2, 3)),
    "mme": (mme, lambda doc: doc["answer"], (0, 0, 1, 1)),
}


@pytest.mark.parametrize("name", RECIPES)
def test_the_recipes_for_lmms_evals_other_tasks_work(tmp_path: Path, name: str) -> None:
    """At most four lines; right answers score 1 and wrong ones 0, on data in the hub's schema."""
    make, gold, clusters = RECIPES[name]
    path = f"benchmarks-of-mine/{name}.yaml"
    assert len(files()[path].splitlines()) <= 4
    write(tmp_path, path)
    settings = TaskSettings(name=name, data=make(tmp_path / "data"))
    task: Task = build_task(settings, [tmp_path / "benchmarks-of-mine"], seed=0)
    assert task.clusters == clusters
    assert task.reference(0)
    found = score_answers(task, gold)
    assert found.per_document == (1.0,) * len(clusters)
    assert score_answers(task, lambda _: "??").value == 0.0
