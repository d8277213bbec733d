"""YAMLs of tasks: read as lmms-eval reads them, with lmms-eval's own tasks to include."""

from __future__ import annotations

from pathlib import Path

import pytest

from mordal_optuna.evaluation.guards import import_lmms_eval
from mordal_optuna.evaluation.yamls import load_yaml, upstream_folder, yaml_files

RECIPE = """
include: pope/pope.yaml
metadata: {mordal: {metric: "pope_accuracy,none"}}
doc_to_visual: !function utils.image
"""


@pytest.fixture(autouse=True)
def _imported() -> None:
    import_lmms_eval()


def recipe(folder: Path, text: str = RECIPE) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "utils.py").write_text("def image(doc):\n    return ['own']\n")
    path = folder / "mine.yaml"
    path.write_text(text)
    return path


def test_a_task_of_lmms_eval_is_included_wherever_it_is_installed(tmp_path: Path) -> None:
    """Its functions are its own; what the YAML says itself wins, its functions included."""
    content = load_yaml(recipe(tmp_path), "full")
    assert content["task"] == "pope"
    assert content["metadata"] == {"mordal": {"metric": "pope_accuracy,none"}}
    assert content["doc_to_visual"](None) == ["own"]
    assert Path(content["process_results"].__code__.co_filename).parent.name == "pope"
    assert "include" not in content
    assert load_yaml(tmp_path / "mine.yaml", "simple")["task"] == "pope"


def test_several_includes_and_lines_around_them(tmp_path: Path) -> None:
    """The first of several wins, as in lmms-eval; files beside the YAML come first."""
    (tmp_path / "pope").mkdir()
    (tmp_path / "pope" / "pope.yaml").write_text("task: own\ntest_split: train\n")
    both = "test_split: dev\ninclude:\n- pope/pope.yaml\n- mme/mme.yaml\ndoc_to_target: a\n"
    content = load_yaml(recipe(tmp_path, both), "simple")
    assert (content["task"], content["test_split"]) == ("own", "dev")
    assert content["dataset_path"] == "lmms-lab-encoder/MME"
    assert content["doc_to_target"] == "a"


def test_other_includes_are_left_to_lmms_eval(tmp_path: Path) -> None:
    (tmp_path / "common.yaml").write_text("task: t\n")
    path = recipe(tmp_path, "include: common.yaml\ntest_split: test\n")
    assert load_yaml(path, "simple") == {"task": "t", "test_split": "test"}
    assert yaml_files(path) == [path, tmp_path / "common.yaml"]
    with pytest.raises(FileNotFoundError, match=r"nowhere.yaml"):
        load_yaml(recipe(tmp_path, "include: nowhere.yaml\n"), "simple")


def test_files_of_lmms_eval_are_none_of_the_tasks_own(tmp_path: Path) -> None:
    """They are covered by lmms-eval's version; their paths differ between machines."""
    assert yaml_files(recipe(tmp_path)) == [tmp_path / "mine.yaml"]
    assert (upstream_folder() / "pope" / "pope.yaml").is_file()
