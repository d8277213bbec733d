"""The terminal shows what each task's best pair wins, and the best pairs on each task."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.console import Console

from mordal_optuna.reporting import task_words
from mordal_optuna.reporting.task_tables import task_tables
from tests.reporting.results import printed

if TYPE_CHECKING:
    from mordal_optuna.study.result import StudyResult


def test_every_task_has_a_row_and_a_column(several: StudyResult) -> None:
    shown = printed(several)
    for task in several.tasks:
        row = next(line for line in shown.splitlines() if line.startswith(f" {task.name}"))
        assert task_words.own_best(task) in row
        assert task_words.gain(task) in row
    assert re.search(r"gain, points +better, %", shown)
    assert re.search(r"mean +gqa +chartqa", shown)
    for pair in several.unbeaten:
        assert re.search(rf"{pair.vision_encoder} +{re.escape(pair.llm)} \*", shown)
    assert task_words.unbeaten(several)[:30] in " ".join(shown.split())
    assert max(map(len, shown.splitlines())) <= 100


def test_many_tasks_are_split_over_tables_that_fit(several: StudyResult) -> None:
    tasks = tuple(replace(several.tasks[0], name=f"mordal_task_{n:05d}") for n in range(7))
    tables = task_tables(replace(several, tasks=tasks))
    assert [len(table.columns) for table in tables] == [6, 3 + 4, 3 + 3]
    stream = io.StringIO()
    for table in tables:
        Console(file=stream, width=100).print(table)
    assert all(task.name in stream.getvalue() for task in tasks)


def test_a_study_of_one_task_shows_no_tasks(result: StudyResult) -> None:
    assert "best pairs on each task" not in printed(result)
    assert "\ntasks" not in printed(result)
