"""Data, tasks and models of a study as inputs, each with the function that reads it again."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from mordal_optuna.alignment.checkpoint import model_part
from mordal_optuna.alignment.data import AlignmentSet
from mordal_optuna.config.shipped import shipped
from mordal_optuna.evaluation.identity import TaskPart
from mordal_optuna.evaluation.tasks import build_task
from mordal_optuna.files.inputs import DATA, Watch
from mordal_optuna.models.loading import load_config
from mordal_optuna.progress import Silent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mordal_optuna.alignment.machine import Machine
    from mordal_optuna.config import StudySettings, TaskSettings
    from mordal_optuna.evaluation.task import Task
    from mordal_optuna.files.inputs import Part
    from mordal_optuna.pool import ModelSource
    from mordal_optuna.progress import Progress


def watch_inputs(
    settings: StudySettings, data: AlignmentSet, tasks: Sequence[Task], machine: Machine
) -> Watch:
    """Record a study's inputs as they were opened.

    Args:
        settings: the study.
        data: its alignment set.
        tasks: its tasks, in the study file's order.
        machine: device, ranks and caches.

    Raises:
        ModelError: if a model's configuration cannot be read.
    """
    pool = settings.models()
    readers: dict[str, Callable[[], Part]] = {
        f"{kind}:{source.name}": partial(_read_model, source, machine)
        for kind, sources in (("vision_encoder", pool.vision_encoders), ("llm", pool.llms))
        for source in sources
    }
    parts = {name: read() for name, read in readers.items()}
    readers[DATA], parts[DATA] = partial(read_data, settings, Silent()), data
    for task, wanted in zip(tasks, settings.scored_tasks, strict=True):
        name = f"task:{task.name}"
        readers[name] = partial(_read_task, settings, wanted)
        parts[name] = TaskPart(task)
    return Watch(settings.study, parts, readers)


def read_data(settings: StudySettings, progress: Progress) -> AlignmentSet:
    """Read a study's alignment set.

    Args:
        settings: the study.
        progress: receives progress updates.

    Raises:
        DataError: if it cannot be trained on.
    """
    return AlignmentSet.read(
        settings.alignment,
        seed=settings.seed,
        progress=progress,
        checked=settings.workdir,
        threads=settings.runtime.data_threads,
    )


def open_task(settings: StudySettings, task: TaskSettings) -> Task:
    """Build a task of a study.

    Args:
        settings: the study.
        task: one of its tasks.

    Raises:
        TaskError: if it cannot be built, or has fewer documents than an early rung asks for.
    """
    built = build_task(task, [*settings.task_folders, shipped("tasks")], seed=settings.seed)
    for early in () if task.early_documents == "auto" else task.early_documents:
        built.subset(early.documents)  # refused now if there are not so many
    return built


def _read_model(source: ModelSource, machine: Machine) -> Part:
    return model_part(source, load_config(source), machine.files)


def _read_task(settings: StudySettings, task: TaskSettings) -> Part:
    return TaskPart(open_task(settings, task))
