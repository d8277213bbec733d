"""A task as an input of a study: its digests follow its content, not its comments."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from mordal_optuna.evaluation.identity import TaskPart
from tests.evaluation.local_task import task_with_functions, write_documents

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("file", "old", "new", "aspect"),
    [
        ("mine/utils.py", "'a'", "'b'", "utils.py"),
        ("common.yaml", "4", "5", "prompt"),
        ("mine/my_task.yaml", "mean", "median", "metric"),
        ("mine/my_task.yaml", "task: my_task", "# a comment\ntask: my_task", None),
        ("mine/other.yaml", "task: other", "task: another", None),
        ("../data/README.md", "---\n", "---\npretty_name: x\n", None),
    ],
)
def test_what_shapes_a_task_is_part_of_its_identity(
    tmp_path: Path, file: str, old: str, new: str, aspect: str | None
) -> None:
    """Its YAML, included YAMLs and Python functions; not comments or other tasks' files."""
    write_documents(tmp_path / "data", 4)
    before = task_with_functions(tmp_path / "tasks", tmp_path / "data")
    seen = TaskPart(before)
    assert seen.unchanged(8)
    path = tmp_path / "tasks" / file
    path.write_text(path.read_text().replace(old, new, 1))
    now = task_with_functions(tmp_path / "tasks", tmp_path / "data")
    digests = TaskPart(now).digests
    assert {a for a in digests if digests[a] != seen.digests[a]} == ({aspect} if aspect else set())
    assert (now.identity == before.identity) == (aspect is None)
    assert seen.unchanged(8) == file.endswith("other.yaml")


@pytest.mark.parametrize("change", ["answer", "image"])
def test_documents_changed_in_place_make_another_task(tmp_path: Path, change: str) -> None:
    """Also if the YAML names their folder, and if only an image changed."""
    write_documents(tmp_path / "data", 4)
    before = task_with_functions(tmp_path / "tasks", tmp_path / "data")
    seen = TaskPart(before)
    options = {"answer": "blue"} if change == "answer" else {"color": "blue"}
    shutil.rmtree(tmp_path / "data")
    write_documents(tmp_path / "data", 4, **options)
    assert not seen.unchanged(8)
    now = task_with_functions(tmp_path / "tasks", tmp_path / "data")
    digests = TaskPart(now).digests
    assert {a for a in digests if digests[a] != seen.digests[a]} == {"documents"}
    assert now.identity != before.identity
    assert now.subset(2).identity != before.subset(2).identity
