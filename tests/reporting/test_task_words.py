"""What is said of several tasks names the pairs, what they win, and how sure that is."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mordal_optuna.reporting import task_words
from mordal_optuna.study.task_results import Gain

if TYPE_CHECKING:
    from mordal_optuna.study.result import StudyResult


def test_a_gain_has_a_sign_an_interval_and_a_probability(several: StudyResult) -> None:
    task = replace(several.tasks[0], gain=Gain(0.012, -0.02, 0.044, 0.876))
    assert task_words.gain(task) == "+1.2 (-2.0 to +4.4)"
    assert task_words.better(task) == "88"
    assert task_words.own_best(task) == str(task.best.candidate)
    same = replace(task, gain=None)
    assert task_words.gain(same) == task_words.better(same) == "-"
    assert task_words.own_best(same) == "the same pair"


def test_specialising_names_each_task_that_wins(several: StudyResult) -> None:
    gqa, chartqa = several.tasks
    won = replace(gqa, gain=Gain(0.012, -0.02, 0.044, 0.876))
    said = task_words.specialising(replace(several, tasks=(won, replace(chartqa, gain=None))))
    assert f"would win 1.2 points on gqa by {gqa.best.candidate}" in said
    assert "with probability 0.88" in said
    assert "chartqa" not in said
    nothing = tuple(replace(task, gain=None) for task in several.tasks)
    said = task_words.specialising(replace(several, tasks=nothing))
    assert said == f"By the estimates {several.winner.candidate} is the best pair on every task."


def test_the_unbeaten_pairs_are_counted_and_the_first_are_named(several: StudyResult) -> None:
    pairs = tuple(estimate.candidate for estimate in several.ranking)
    said = task_words.unbeaten(replace(several, unbeaten=pairs[:3]), most=2)
    assert said.startswith("3 of 9 pairs")
    assert said.endswith(f"{pairs[0]}; {pairs[1]} and 1 more.")
    assert task_words.unbeaten(replace(several, unbeaten=pairs[:1])).startswith("1 of 9 pairs is")


def test_the_short_list_has_the_unbeaten_and_the_first_three_of_every_task(
    several: StudyResult,
) -> None:
    pairs = task_words.short_list(several)
    assert len(pairs) == len(set(pairs))
    for task in several.tasks:
        assert {e.candidate for e in task.ranking[:3]} <= set(pairs)
    assert set(several.unbeaten) <= set(pairs)
    assert pairs == [e.candidate for e in several.ranking if e.candidate in pairs]


def test_ranks_are_those_on_the_task(several: StudyResult) -> None:
    task = several.tasks[0]
    texts = task_words.ranked(task)
    assert texts[task.best.candidate].endswith(" (1)")
    assert len(texts) == 9
    assert task_words.named(task) == "gqa x 2"
    assert task_words.named(several.tasks[1]) == "chartqa"
