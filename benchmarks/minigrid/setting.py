"""What all jobs of the grid share: the study file, its alignment set and tasks, opened once."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from mordal_optuna.alignment.data import AlignmentSet
from mordal_optuna.alignment.machine import Machine
from mordal_optuna.config import read_study
from mordal_optuna.config.shipped import shipped
from mordal_optuna.evaluation.tasks import build_task, task_images
from mordal_optuna.progress import Silent
from mordal_optuna.rivals.labels import answer_classes, clustered_classes, text_embeddings

if TYPE_CHECKING:
    from pathlib import Path

    from PIL.Image import Image

    from mordal_optuna.config import StudySettings
    from mordal_optuna.evaluation.task import Task
    from mordal_optuna.rivals.checks import Floats, Ints

# Shares of the alignment set at which every pair is scored: 1/32, 1/16, ... 1.
RATIOS = (32, 16, 8, 4, 2, 1)
# Answers that rivals may be asked about, and how often one must be seen to be a class.
_ANSWERS, _LEAST, _CLASSES = 8, 8, 8


@dataclass(frozen=True)
class Answers:
    """A task's reference answers as rivals read them; the same for all pairs.

    Attributes:
        texts: one a document.
        labels: classes; of similar answers where the answers themselves hardly recur.
        embeddings: K x N x L, of the texts.
        asked: the most frequent answers, whose probabilities are LEEP's source classes.
    """

    texts: tuple[str, ...]
    labels: Ints
    embeddings: Floats
    asked: tuple[str, ...]


class Setting:
    """A study file, opened once in every process."""

    def __init__(self, study_file: Path) -> None:
        """Open a study file whose pool is there already."""
        torch.set_num_threads(1)
        self.settings: StudySettings = read_study(study_file)

    @property
    def machine(self) -> Machine:
        """One thread of a CPU; no features of the alignment set are shared, so costs are whole."""
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
        """Samples at which every pair is scored."""
        return tuple(len(self.data) // ratio for ratio in RATIOS)

    @property
    def names(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Encoders and LLMs."""
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
        asked = (self.settings.task, *self.settings.also_score)
        folders = [*self.settings.task_folders, shipped("tasks")]
        return tuple(build_task(task, folders, seed=self.settings.seed) for task in asked)

    def images(self, task: Task) -> list[Image]:
        """Images on which models are compared."""
        return task_images(task, self.settings.representation.images)

    def document_images(self, task: Task) -> list[Image]:
        """The first image of every document."""
        documents = task.live.dataset[task.split]
        return [
            task.live.doc_to_visual(documents[n])[0].convert("RGB")
            for n in range(len(task.documents))
        ]

    def answers(self, task: Task) -> Answers:
        """A task's answers as rivals read them."""
        texts = tuple(task.reference(n) for n in range(len(task.documents)))
        embeddings = text_embeddings(texts)
        labels, names = answer_classes(texts, least=_LEAST)
        if len(names) < 2 or np.mean(labels >= 0) < 0.5:
            different = len(set(texts))
            count = min(_CLASSES, different)
            labels = clustered_classes(embeddings, count=count, seed=self.settings.seed)
        asked = tuple(answer for answer, _ in Counter(texts).most_common(_ANSWERS))
        return Answers(texts, labels, embeddings, asked)
