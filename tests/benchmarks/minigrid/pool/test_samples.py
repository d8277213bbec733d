"""Samples: prompts are those of the tasks, and descriptions contain the answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from benchmarks.minigrid.pool.samples import SKILLS, random_sample
from mordal_optuna.config import TaskSettings
from mordal_optuna.evaluation.tasks import build_task
from mordal_optuna.zoo.drawing.pictures import describe
from mordal_optuna.zoo.tasks.names import TASKS
from mordal_optuna.zoo.tasks.seven import write_seven

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tasks: Path = tmp_path_factory.mktemp("seven")
    write_seven(tasks, documents=8, seed=1, advance=lambda _: None)
    return tasks


def test_prompts_of_samples_are_those_of_the_tasks(folder: Path) -> None:
    """Whatever a task asks ends as a sample of its skill does, so that training transfers."""
    rng = np.random.default_rng(0)
    for name, skill in zip(TASKS, SKILLS, strict=True):
        task = build_task(TaskSettings(name=name, data=folder / name), [], seed=0)
        split = task.live.dataset[task.split]
        asked = set()
        for number in range(8):
            (message,) = task.live.doc_to_messages(split[number])
            texts = [part["text"] for part in message["content"] if part["type"] == "text"]
            asked.add(texts[-1].rsplit("\n", 1)[1])
        trained = {
            turn.prompt.rsplit("\n", 1)[1]
            for _ in range(16)
            for turn in random_sample(skill, 2, rng).turns
        }
        assert asked <= trained, name


def test_right_answers_of_samples_follow_from_what_is_told() -> None:
    """A description holds the answer wherever the question is not about numbers or knowledge."""
    rng = np.random.default_rng(0)
    for _ in range(40):
        sample = random_sample("documents", 3, rng)
        told = "\n".join(describe(picture) for picture in sample.pictures)
        assert all(turn.answer in told for turn in sample.turns)
