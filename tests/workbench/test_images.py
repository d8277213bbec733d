"""Images for the comparison of models: the tasks' own, or those of the alignment set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mordal_optuna.config import RepresentationSettings, StudySettings, TaskSettings
from mordal_optuna.config.shipped import shipped
from mordal_optuna.errors import TaskError
from mordal_optuna.evaluation.tasks import build_task
from mordal_optuna.workbench.images import comparison_images
from tests.evaluation.local_task import write_documents
from tests.processes.test_patience import Notes

if TYPE_CHECKING:
    from pathlib import Path

    from mordal_optuna.alignment.data import AlignmentSet
    from mordal_optuna.evaluation.task import Task


def of(images: int) -> StudySettings:
    """A study that compares models on so many images."""
    section = RepresentationSettings(images=images)
    return StudySettings.model_construct(representation=section)


def task(folder: Path, color: str = "black") -> Task:
    """Four documents that show one picture."""
    write_documents(folder, 4, color=color)
    settings = TaskSettings(name="mordal_scenes", data=folder)
    return build_task(settings, [shipped("tasks")], seed=0)


def test_a_task_with_too_few_images_is_compared_on_those_of_the_alignment_set(
    data: AlignmentSet, tmp_path: Path
) -> None:
    """One line says so; no image occurs twice."""
    progress, alike = Notes(), task(tmp_path / "alike")
    images = comparison_images([alike], data, of(6), progress)
    assert len({image.tobytes() for image in images}) == len(images) == 6
    assert progress.notes == [
        "mordal_scenes: 1 different images are too few to compare models on; 6 images of the "
        "alignment set are taken instead"
    ]


def test_a_picture_of_several_conversations_counts_once(
    data: AlignmentSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = type(data).pictures
    monkeypatch.setattr(type(data), "pictures", lambda self, index: once(self, index // 2))
    images = comparison_images([task(tmp_path / "alike")], data, of(6), Notes())
    assert len({image.tobytes() for image in images}) == len(images) == 6


def test_a_task_with_enough_images_is_compared_on_its_own(zoo: Path, data: AlignmentSet) -> None:
    progress = Notes()
    settings = TaskSettings(name="mordal_scenes", data=zoo / "tasks" / "scenes")
    scenes = build_task(settings, [shipped("tasks")], seed=0)
    images = comparison_images([scenes], data, of(4), progress)
    shown = {d["image"].convert("RGB").tobytes() for d in scenes.live.dataset["test"]}
    assert {image.tobytes() for image in images} <= shown
    assert progress.notes == []


def test_too_few_images_in_both_are_refused(
    data: AlignmentSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alike = task(tmp_path / "alike")
    monkeypatch.setattr(type(data), "__len__", lambda _: 1)
    with pytest.raises(TaskError, match=r"shows 1 .*, and the alignment set 1; .* at least 4"):
        comparison_images([alike], data, of(6), Notes())
