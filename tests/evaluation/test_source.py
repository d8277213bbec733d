"""Where a task is defined, and digests of its definition and documents."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from datasets import Dataset, Features, Image, Value
from PIL import Image as PilImage

from mordal_optuna.evaluation.source import document_digests, local_data
from tests.evaluation.local_task import scenes_with_options, task_with_functions, write_documents

if TYPE_CHECKING:
    from pathlib import Path


def test_options_change_no_digest(tmp_path: Path) -> None:
    """They affect no score, so scores stored without them are reused."""
    task = scenes_with_options(tmp_path / "a", [["a", "b"]] * 4)
    spec = task.spec.model_copy(update={"options": None})
    assert task.source is not None
    assert task.source.definition_digests(task.spec) == task.source.definition_digests(spec)
    other = spec.model_copy(update={"gold": "answer"})
    assert task.source.definition_digests(spec) != task.source.definition_digests(other)


def test_a_source_lists_the_files_that_shape_the_task(tmp_path: Path) -> None:
    """The YAML, the YAML it includes, the Python files beside them, and the data; nothing else."""
    write_documents(tmp_path / "data", 2)
    task = task_with_functions(tmp_path / "tasks", tmp_path / "data")
    assert task.source is not None
    names = [path.name for path in task.source.files()]
    assert names == ["my_task.yaml", "common.yaml", "utils.py", "README.md", "test.parquet"]
    assert set(task.source.definition_digests(task.spec)) == {
        "prompt",
        "metric",
        "lmms-eval",
        "utils.py",
    }


def test_equal_documents_have_equal_digests_wherever_their_images_are(tmp_path: Path) -> None:
    """An image given by its path has the digest of its bytes; other pixels have another."""
    for color in ("red", "blue"):
        PilImage.new("RGB", (4, 4), color).save(tmp_path / f"{color}.png")
    red, blue = (tmp_path / f"{color}.png" for color in ("red", "blue"))
    images = [
        {"bytes": red.read_bytes(), "path": None},
        {"bytes": None, "path": str(red)},
        {"bytes": blue.read_bytes(), "path": None},
    ]
    rows = [{"id": "1", "image": image} for image in images]
    features = Features(id=Value("string"), image=Image(decode=False))
    first, same, other = document_digests(Dataset.from_list(rows, features=features))
    assert first == same != other


@pytest.mark.parametrize("names", ["a.json", ["a.json"], {"test": ["a.json", "gone.json"]}])
def test_local_data_are_the_files_and_folders_that_exist(tmp_path: Path, names: object) -> None:
    """Given alone, as a list, or by split."""
    (tmp_path / "a.json").write_text("[]")
    here = str(tmp_path)

    def below(value: object) -> object:
        if isinstance(value, str):
            return f"{here}/{value}"
        if isinstance(value, dict):
            return {key: below(entry) for key, entry in value.items()}
        assert isinstance(value, list)
        return [below(entry) for entry in value]

    config = {"dataset_path": here, "dataset_kwargs": {"data_files": below(names)}}
    assert local_data(config) == (tmp_path, tmp_path / "a.json")
    assert local_data({"dataset_path": "owner/on-the-hub"}) == ()
