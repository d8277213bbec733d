"""The study of the grid: its pool, alignment set, tasks and rungs, opened once per process."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from benchmarks.minigrid.pool.minigrid import MINIGRID
from mordal_optuna.alignment.data import AlignmentSet
from mordal_optuna.alignment.machine import Machine
from mordal_optuna.config import read_study
from mordal_optuna.config.shipped import shipped
from mordal_optuna.evaluation.tasks import build_task, task_images
from mordal_optuna.progress import Silent
from mordal_optuna.rivals.labels import answer_classes, clustered_classes, text_embeddings
from mordal_optuna.zoo.build import build
from mordal_optuna.zoo.quickstart import recipe_named

if TYPE_CHECKING:
    from PIL.Image import Image

    from mordal_optuna.config import StudySettings
    from mordal_optuna.evaluation.task import Task
    from mordal_optuna.rivals.checks import Floats, Ints

# The minigrid's study file, and the folder of the pool that it names.
STUDY = Path(__file__).parents[1] / "study.yaml"
POOL = Path("runs/minigrid-zoo")
# Every pair is scored at these fractions of the alignment set: 1/32, 1/16, ... 1.
RATIOS = (32, 16, 8, 4, 2, 1)
# Number of frequent answers used as LEEP's source classes; smallest number of documents of an
# answer that is a class; number of classes where answers hardly recur.
_ANSWERS, _LEAST, _CLASSES = 8, 8, 8


@dataclass(frozen=True)
class Answers:
    """A task's reference answers in the form that rivals need; the same for all pairs.

    Attributes:
        texts: one answer per document.
        labels: class of each answer; classes of similar answers where answers hardly recur.
        embeddings: embeddings of the texts, K x N x L.
        asked: the most frequent answers, whose probabilities are LEEP's source classes.
    """

    texts: tuple[str, ...]
    labels: Ints
    embeddings: Floats
    asked: tuple[str, ...]


def build_pool(study_file: Path, *, workers: int) -> None:
    """Build missing parts of a study's pool: the minigrid's, or that of a `zoo` section.

    Args:
        study_file: path of the study file.
        workers: number of building processes; 0 builds in this process.

    Raises:
        ZooError: if the folder holds another pool, or a part cannot be built.
    """
    if study_file.resolve() == STUDY.resolve():
        build(MINIGRID, POOL, Silent(), workers=workers)
        return
    settings = read_study(study_file)
    if settings.zoo:
        recipe = recipe_named(settings.zoo.recipe)
        build(recipe, settings.zoo.folder, Silent(), workers=workers)


class Setting:
    """An opened study file."""

    def __init__(self, study_file: Path) -> None:
        """Open a study file whose pool has been built; limits torch to one thread."""
        torch.set_num_threads(1)
        self.settings: StudySettings = read_study(study_file)

    @property
    def machine(self) -> Machine:
        """One CPU thread without a feature cache, so that every pair pays its whole cost."""
        return Machine(torch.device("cpu"), threads=1)

    @cached_property
    def data(self) -> AlignmentSet:
        """The alignment set."""
        return AlignmentSet.read(
            self.settings.alignment,
            seed=self.settings.seed,
            progress=Silent(),
            checked=self.settings.workdir,
            threads=1,
        )

    @property
    def rungs(self) -> tuple[int, ...]:
        """Numbers of samples at which every pair is scored."""
        return tuple(len(self.data) // ratio for ratio in RATIOS)

    @property
    def names(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Names of the encoders and of the LLMs."""
        models = self.settings.models()
        return models.encoder_names, models.llm_names

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """All pairs, encoder by encoder."""
        encoders, llms = self.names
        return [(v, m) for v in encoders for m in llms]

    @cached_property
    def tasks(self) -> tuple[Task, ...]:
        """The seven tasks."""
        tasks = self.settings.scored_tasks
        folders = [*self.settings.task_folders, shipped("tasks")]
        return tuple(build_task(task, folders, seed=self.settings.seed) for task in tasks)

    def images(self, task: Task) -> list[Image]:
        """Images of a task on which models are compared."""
        return task_images(task, self.settings.representation.images)

    def document_images(self, task: Task) -> list[Image]:
        """The first image of every document."""
        documents = task.live.dataset[task.split]
        return [
            task.live.doc_to_visual(documents[n])[0].convert("RGB")
            for n in range(len(task.documents))
        ]

    def answers(self, task: Task) -> Answers:
        """A task's reference answers in the form that rivals need."""
        texts = tuple(task.reference(n) for n in range(len(task.documents)))
        embeddings = text_embeddings(texts)
        labels, names = answer_classes(texts, least=_LEAST)
        if len(names) < 2 or np.mean(labels >= 0) < 0.5:
            different = len(set(texts))
            count = min(_CLASSES, different)
            labels = clustered_classes(embeddings, count=count, seed=self.settings.seed)
        asked = tuple(answer for answer, _ in Counter(texts).most_common(_ANSWERS))
        return Answers(texts, labels, embeddings, asked)
