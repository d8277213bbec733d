"""The guide for adding a benchmark, followed literally."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from mordal_optuna.config import TaskSettings
from mordal_optuna.evaluation.tasks import build_task
from tests.evaluation.seven import score_answers

if TYPE_CHECKING:
    import pytest

GUIDE = Path(__file__).parents[2] / "docs" / "add-a-benchmark.md"


def test_the_guides_benchmark_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its data, its YAML, its four lines and its study file, as they stand there."""
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```(python|yaml)\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    kinds = [kind for kind, _ in blocks]
    assert kinds == ["python", "yaml", "python", "yaml"]
    data, task_yaml, utils, study = (text for _, text in blocks)
    Path("signs").mkdir()
    exec(compile(data, str(GUIDE), "exec"), {})
    Path("benchmarks-of-mine").mkdir()
    Path("benchmarks-of-mine/signs.yaml").write_text(task_yaml)
    Path("benchmarks-of-mine/utils.py").write_text(utils)
    study_file = yaml.safe_load(study)
    folders = [Path(folder) for folder in study_file["task_folders"]]
    task = build_task(TaskSettings(**study_file["task"]), folders, seed=0)
    assert (task.spec.chance, task.spec.cluster_key) == (0.33, "sign")
    found = score_answers(task, lambda doc: doc["answer"].upper())
    assert (found.value, found.documents, found.clusters) == (1.0, 6, (0, 0, 1, 1, 2, 2))
    (message,) = task.live.doc_to_messages(task.live.dataset["test"][0])
    text = "What color is the sign?\nAnswer with one word."
    assert [part["type"] for part in message["content"]] == ["image", "text"]
    assert message["content"][1]["text"] == text
