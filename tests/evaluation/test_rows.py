"""Plain rows in place of a dataset: the same values, which a task may change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datasets import Dataset

from mordal_optuna.evaluation.rows import Rows
from mordal_optuna.evaluation.score import _rows_kept

if TYPE_CHECKING:
    from mordal_optuna.evaluation.task import Task

COLUMNS = {"text": ["a", "b"], "options": [["x", "y"], ["z"]], "more": [{"n": [1]}, {"n": [2]}]}


def test_it_reads_like_the_dataset() -> None:
    documents = Dataset.from_dict(COLUMNS)
    rows = Rows(documents)
    assert list(rows) == list(documents)
    assert len(rows) == 2
    assert rows[1] == rows[-1] == documents[1]
    assert rows["text"] == documents["text"]
    assert rows.column_names == documents.column_names
    assert list(rows.select([1])) == [documents[1]]


def test_a_row_that_a_task_has_changed_is_read_anew() -> None:
    rows = Rows(Dataset.from_dict(COLUMNS))
    for row in (rows[0], *rows):
        row["options"].append("changed")
        row["more"]["n"].append(7)
        row["text"] = "changed"
    assert list(rows) == list(Dataset.from_dict(COLUMNS))


def test_a_task_object_has_its_datasets_back_afterwards(scenes: Task) -> None:
    before, docs = scenes.live.dataset_no_image, scenes.live.task_docs
    with _rows_kept([scenes]):
        assert scenes.live.dataset_no_image[scenes.split] is scenes.rows
        assert scenes.live.eval_docs_no_media is scenes.rows
    assert scenes.live.dataset_no_image is before
    assert scenes.live.task_docs is docs
    assert not isinstance(docs, Rows)
