"""The tables about several target tasks, in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from mordal_optuna.reporting import task_words, words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mordal_optuna.study.result import StudyResult
    from mordal_optuna.study.task_results import TaskResult

# Columns that fit side by side, and rows that are shown; the report has all pairs.
_MOST_TASKS = 4
_MOST_PAIRS = 15
# Title of each column of the first table, and whether it is aligned to the right.
_COLUMNS = (
    ("task", False),
    ("one for all, %", True),
    ("best for the task", False),
    ("its %", True),
    ("gain, points", True),
    ("better, %", True),
)


def task_tables(result: StudyResult) -> list[Table]:
    """What specialising on each task would win; then the best pairs on each task.

    Args:
        result: result of a study with several tasks.
    """
    starts = range(0, len(result.tasks), _MOST_TASKS)
    chunks = [result.tasks[start : start + _MOST_TASKS] for start in starts]
    return [_gains(result), *(_estimates(result, chunk) for chunk in chunks)]


def _gains(result: StudyResult) -> Table:
    table = _table(f"one model for all tasks, {result.winner.candidate}, and the best for each")
    for name, right in _COLUMNS:
        table.add_column(name, justify="right" if right else "left")
    for task in result.tasks:
        table.add_row(
            task_words.named(task),
            words.estimated(task.one_for_all),
            task_words.own_best(task),
            words.percent(task.best.value),
            task_words.gain(task),
            task_words.better(task),
        )
    return table


def _estimates(result: StudyResult, tasks: Sequence[TaskResult]) -> Table:
    """Estimates of the pairs of the short list on some tasks."""
    pairs = task_words.short_list(result)
    shown = pairs[:_MOST_PAIRS]
    left_out = f"; {len(pairs) - len(shown)} more in the report" if len(pairs) > len(shown) else ""
    table = _table(f"best pairs on each task: estimate, % (rank there); *: unbeaten{left_out}")
    for name in ("vision encoder", "llm"):
        table.add_column(name)
    for name in ("mean", *(task.name for task in tasks)):
        table.add_column(name, justify="right")
    overall = {e.candidate: words.only_estimate(e) for e in result.ranking}
    by_task = [task_words.ranked(task) for task in tasks]
    for pair in shown:
        mark = " *" if pair in result.unbeaten else ""
        table.add_row(
            pair.vision_encoder,
            f"{pair.llm}{mark}",
            overall[pair],
            *(texts[pair] for texts in by_task),
            style="bold" if pair == result.winner.candidate else None,
        )
    return table


def _table(title: str) -> Table:
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=None,
        padding=(0, 1, 0, 1),
        header_style="dim",
    )
