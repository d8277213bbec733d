"""The seven drawn benchmarks: upstream's own code reads and scores them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from mordal_optuna.config import TaskSettings
from mordal_optuna.evaluation.tasks import build_task
from mordal_optuna.zoo.tasks.names import TASKS
from mordal_optuna.zoo.tasks.seven import write_seven, write_task
from tests.evaluation.seven import Answer, score_answers

if TYPE_CHECKING:
    from pathlib import Path

    from mordal_optuna.evaluation.task import Task

DOCUMENTS = 24

GOLD: dict[str, Answer] = {
    "gqa": lambda d: d["answer"],
    "vizwiz_vqa_val": lambda d: Counter(d["answers"]).most_common(1)[0][0],
    "chartqa": lambda d: d["answer"],
    "docvqa_val": lambda d: d["answers"][0],
    "scienceqa_img": lambda d: "ABCD"[d["answer"]],
    "ai2d": lambda d: "ABCD"[int(d["answer"])],
    "mmmu_val": lambda d: d["answer"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("seven")
    write_seven(found, documents=DOCUMENTS, seed=1, advance=lambda _: None)
    return found


def built(folder: Path, name: str) -> Task:
    return build_task(TaskSettings(name=name, data=folder / name), [], seed=0)


@pytest.mark.parametrize("name", TASKS)
def test_right_answers_score_one_and_silence_does_not(folder: Path, name: str) -> None:
    task = built(folder, name)
    assert len(task.documents) == DOCUMENTS
    right = score_answers(task, GOLD[name])
    if name == "vizwiz_vqa_val":  # annotators disagree
        assert 0.8 < right.value <= 1.0
    else:
        assert right.per_document == (1.0,) * DOCUMENTS
    # MMMU draws an option where it cannot read one.
    assert score_answers(task, lambda _: "nothing").value < (0.6 if name == "mmmu_val" else 0.1)


@pytest.mark.parametrize("name", ["gqa", "chartqa", "docvqa_val", "ai2d"])
def test_several_questions_are_asked_on_a_picture(folder: Path, name: str) -> None:
    clusters = built(folder, name).clusters
    assert clusters is not None
    assert max(clusters) + 1 < DOCUMENTS


def test_annotators_of_a_photo_disagree_and_some_cannot_tell(folder: Path) -> None:
    task = built(folder, "vizwiz_vqa_val")
    answers = task.live.dataset_no_image["val"]["answers"]
    assert {len(ten) for ten in answers} == {10}
    assert any(len(set(ten)) > 2 for ten in answers)
    usual = {Counter(ten).most_common(1)[0][0] for ten in answers}
    assert "unanswerable" in usual
    assert len(usual) > 4


def test_mixed_subjects_show_one_or_two_pictures_and_ask_openly_too(folder: Path) -> None:
    task = built(folder, "mmmu_val")
    split = task.live.dataset["validation"]
    shown = [len(task.live.doc_to_visual(split[n])) for n in range(DOCUMENTS)]
    assert set(shown) == {1, 2}
    assert set(split["question_type"]) == {"multiple-choice", "open"}
    assert len({name.rsplit("_", 1)[0] for name in split["id"]}) >= 4


def test_contexts_hold_what_is_needed(folder: Path) -> None:
    """Where a context says what is true of colours, the options are what it says."""
    split = built(folder, "scienceqa_img").live.dataset_no_image["test"]
    told_some = [doc for doc in split if doc["hint"]]
    assert 0 < len(told_some) < DOCUMENTS
    for doc in told_some:
        assert {part.split(" is ")[1] for part in doc["hint"].split(", ")} == set(doc["choices"])


def test_the_same_seed_writes_the_same(folder: Path, tmp_path: Path) -> None:
    for name in ("gqa", "mmmu_val"):
        for seed, same in ((1, True), (2, False)):
            again = tmp_path / f"{name}-{seed}"
            write_task(name, again, documents=DOCUMENTS, seed=seed, advance=lambda _: None)
            files = sorted((folder / name).glob("*.parquet"))
            equal = [f.read_bytes() == (again / f.name).read_bytes() for f in files]
            assert all(equal) == same


def test_tasks_share_no_picture(folder: Path) -> None:
    seen: Counter[bytes] = Counter()
    for name in TASKS:
        task = built(folder, name)
        split = task.live.dataset[task.split]
        own = {task.live.doc_to_visual(split[n])[0].tobytes() for n in range(DOCUMENTS)}
        seen.update(own)
    assert max(seen.values()) == 1
