"""A task: its reference answers, chance, and nested subsets."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from mordal_optuna.errors import TaskError
from mordal_optuna.evaluation.task import ANSWER_TOKENS
from tests.evaluation.local_task import scenes_with_options
from tests.evaluation.seven import SEVEN, built, score_answers

if TYPE_CHECKING:
    from pathlib import Path

    from mordal_optuna.evaluation.task import Task


@pytest.mark.parametrize("name", ["gqa", "mmmu_val"])
def test_a_subset_is_the_task_built_with_so_few(tmp_path: Path, name: str) -> None:
    """Same documents, scores and identity; subsets are nested; the whole task is unchanged."""
    whole = built(name, tmp_path)
    total = len(whole.documents)
    part = whole.subset(3)
    outright = built(name, tmp_path, documents=3)
    assert part.documents == outright.documents
    assert part.identity == outright.identity != whole.identity
    assert set(part.subset(2).documents) < set(part.documents) < set(whole.documents)
    gold = SEVEN[name][1]
    assert (
        score_answers(part, gold).per_document
        == score_answers(outright, gold).per_document
        == (1.0,) * 3
    )
    assert score_answers(whole, gold).documents == total
    assert [part.reference(n) for n in range(3)] == [outright.reference(n) for n in range(3)]
    with pytest.raises(TaskError, match="4 documents asked for; it is scored on 3"):
        part.subset(4)


def test_reference_answers_may_be_missing_where_nothing_needs_them(tmp_path: Path) -> None:
    task = scenes_with_options(tmp_path, [["red"]] * 4)
    assert task.references(3) == ("red",) * 3
    assert task.references(9) == ("red",) * 4
    without = replace(task, spec=task.spec.model_copy(update={"gold": "solution"}))
    with pytest.raises(TaskError, match="declares gold: 'solution'"):
        without.references(1)
    assert replace(without, likelihood=False).references(1) == ()


def test_answers_have_the_limit_of_the_task_or_a_default(scenes: Task, tmp_path: Path) -> None:
    assert scenes.answer_tokens == 4
    task = scenes_with_options(tmp_path, [["red"]] * 4)
    assert task.answer_tokens == ANSWER_TOKENS == 64


@pytest.mark.parametrize("count", [0, -1, 17])
def test_a_subset_has_at_least_one_document_and_at_most_all(scenes: Task, count: int) -> None:
    with pytest.raises(TaskError, match=f"{count} documents asked for; it is scored on 16, .* 1 "):
        scenes.subset(count)


def test_chance_is_computed_where_documents_list_their_options(
    scenes: Task, tmp_path: Path
) -> None:
    """The mean of 1/n: three of four documents have four options, MMMU's open ones none."""
    assert scenes.chance == scenes.spec.chance == 0.2
    assert built("gqa", tmp_path).chance == 0.0
    assert built("ai2d", tmp_path).chance == 0.25
    assert built("mmmu_val", tmp_path).chance == pytest.approx(0.75 * 0.25)
    drawn = scenes_with_options(tmp_path, [["a", "b"], ["a", "b", "c", "d"], ["a"], None])
    assert drawn.chance == pytest.approx((1 / 2 + 1 / 4) / 4)


def test_a_misspelt_field_of_options_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="declares options: 'chioces'; its documents have id, "):
        scenes_with_options(tmp_path, [["a", "b"]] * 4, field="chioces")


@pytest.mark.parametrize(
    ("name", "answers"),
    [
        ("gqa", ["red", "green"]),
        ("vizwiz_vqa_val", ["dog", "dog"]),  # the first document's annotators disagree
        ("chartqa", ["100", "red"]),
        ("docvqa_val", ["John Smith", "John Smith"]),
        ("scienceqa_img", ["A", "B"]),
        ("ai2d", ["A", "B"]),
        ("mmmu_val", ["A", "B"]),
    ],
)
def test_reference_answers_of_the_seven(tmp_path: Path, name: str, answers: list[str]) -> None:
    task = built(name, tmp_path)
    assert [task.reference(n) for n in range(2)] == answers
    assert set(SEVEN) >= {name}


def test_of_several_reference_answers_the_one_given_most_often(tmp_path: Path) -> None:
    """In any order; the first of equally frequent ones."""
    task = built("vizwiz_vqa_val", tmp_path)
    rows = task.live.dataset_no_image[task.split]
    assert rows[0]["answers"].count("dog") == 2  # the other eight differ
    backwards = rows.map(lambda row: {"answers": row["answers"][::-1]})
    task.live.dataset_no_image[task.split] = backwards
    assert backwards[0]["answers"][0] != "dog"
    assert task.reference(0) == "dog"
    task.live.dataset_no_image[task.split] = rows.map(lambda row: {"answers": row["answers"][1:4]})
    assert task.reference(0) == "dog"  # once each, and it comes first
