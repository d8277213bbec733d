"""Documents of tasks, counted or known, as a built task has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from mordal_optuna.config import parse_study
from mordal_optuna.evaluation.upstream import UPSTREAM
from mordal_optuna.planning.tasks import KNOWN, read_tasks
from tests.planning.studies import shipped_settings

if TYPE_CHECKING:
    from pathlib import Path


def test_documents_are_those_of_the_built_tasks(study_content: dict[str, Any]) -> None:
    from mordal_optuna.config.shipped import shipped
    from mordal_optuna.evaluation.tasks import build_task

    settings = parse_study(study_content)
    for facts, task in zip(read_tasks(settings), settings.scored_tasks, strict=True):
        built = build_task(task, [shipped("tasks")], seed=0)
        assert facts.known
        assert facts.documents == len(built.documents), task.name
        assert facts.new_tokens == built.live.config.generation_kwargs.get("max_new_tokens")


def test_a_subset_and_early_documents_count(study_content: dict[str, Any]) -> None:
    study_content["task"] |= {
        "documents": 10,
        "early_documents": [{"below": 0.5, "documents": 4}],
    }
    task = read_tasks(parse_study(study_content))[0]
    assert task.documents == 10
    assert [task.documents_at(n, 64, 1) for n in (16, 32, 64)] == [4, 10, 10]


def test_public_tasks_are_known() -> None:
    """Each that needs no YAML; others are assumed, and marked."""
    assert set(KNOWN) == set(UPSTREAM)
    assert [t.documents for t in read_tasks(shipped_settings("seven-tasks"))] == [
        *(12_578, 4_319, 2_500, 5_349, 2_017, 3_088, 900)
    ]


def test_an_unknown_task_is_assumed(study_content: dict[str, Any], tmp_path: Path) -> None:
    study_content |= {"task": {"name": "other"}, "also_score": []}
    (task,) = read_tasks(parse_study(study_content))
    assert (task.documents, task.known, task.source) == (2_000, False, "assumed")
    assert tmp_path.is_dir()


@pytest.mark.parametrize("documents", [7])
def test_the_study_file_may_say(study_content: dict[str, Any], documents: int) -> None:
    study_content |= {"task": {"name": "other", "documents": documents}, "also_score": []}
    (task,) = read_tasks(parse_study(study_content))
    assert (task.documents, task.source) == (7, "the study file")
