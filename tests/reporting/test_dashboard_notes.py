"""Notes begin with why the best trial is not the winner, if it is not; then come warnings."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import optuna
import pytest
from optuna.trial import create_trial

from mordal_optuna.reporting import words
from mordal_optuna.reporting.dashboard_notes import (
    best_trial,
    study_attributes,
    study_note,
    task_note,
)
from mordal_optuna.search.attributes import BEST, ESTIMATE, FULL_RUNS, GIVEN_UP, PAIR
from mordal_optuna.study.result import read_result
from tests.reporting.results import result_with_given_up
from tests.search.several import Several
from tests.search.synthetic import plan, search, table

if TYPE_CHECKING:
    from mordal_optuna.study.result import StudyResult


@pytest.fixture
def searched() -> tuple[optuna.Study, StudyResult]:
    chosen = plan(finalists=3)
    study = search(chosen, table())
    return study, read_result(study, chosen, method="mordal", task="gqa")


def note(study: optuna.Study, result: StudyResult) -> str:
    return study_note(study, result, links={}, report=None)


def test_the_note_begins_with_warnings_and_the_winner(
    searched: tuple[optuna.Study, StudyResult],
) -> None:
    study, result = searched
    assert note(study, result).startswith(f"**{words.headline(result)}**")
    warned = replace(result, warnings=("no score is above chance",))
    assert note(study, warned).startswith("**Warning: no score is above chance.**")


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_the_first_line_says_why_the_best_trial_is_not_the_winner(
    result: StudyResult, direction: str
) -> None:
    """None complete; another pair's; then the winner's."""
    study, winner = optuna.create_study(direction=direction), result.winner.candidate
    first = note(study, result).splitlines()[0]
    assert first.startswith("This page has no best trial yet")
    assert str(winner) in first
    other = result.ranking[-1].candidate
    sign = 1 if direction == "maximize" else -1
    for pair, value in ((other, 0.5), (winner, 0.6)):
        assert first == note(study, replace(result, warnings=("w",))).splitlines()[0]
        attributes = {PAIR: [pair.vision_encoder, pair.llm]}
        study.add_trial(create_trial(value=sign * value, user_attrs=attributes))
        first = note(study, result).splitlines()[0]
        if pair == other:
            assert first.startswith(f"The best trial of this page, number 0 ({other}), is not")
            assert ("highest" in first) == (direction == "maximize")
    assert best_trial(study, winner) == ""
    assert first == f"**{words.headline(result)}**"


def test_a_long_ranking_is_cut(searched: tuple[optuna.Study, StudyResult]) -> None:
    study, result = searched
    text = note(study, replace(result, ranking=result.ranking * 3))
    assert "The first 20 of 27 pairs; the report lists all." in text
    assert text.count(" | ") < note(study, result).count(" | ") * 3
    assert "the report lists all" not in note(study, result)


def test_failures_are_named_with_their_reason(
    searched: tuple[optuna.Study, StudyResult],
) -> None:
    study, result = searched
    failed = {result.ranking[-1].candidate: "too large"}
    assert f"Failed: {result.ranking[-1].candidate}, too large." in note(
        study, replace(result, failures=failed)
    )


def test_links_lead_to_report_and_tasks(several: StudyResult) -> None:
    study = search(plan(finalists=3), Several())
    links = {"gqa": "/dashboard/studies/2", "chartqa": "/dashboard/studies/3"}
    main = study_note(study, several, links=links, report="/artifacts/1/a")
    assert "[The whole report](/artifacts/1/a)" in main
    assert r"[synthetic \[chartqa\]](/dashboard/studies/3)" in main
    task = several.tasks[1]
    own = task_note(study, several, task, main="/dashboard/studies/1", links=links)
    assert "by [synthetic](/dashboard/studies/1)" in own
    assert r"The other tasks: [synthetic \[gqa\]](/dashboard/studies/2)" in own
    assert f"Best pair on chartqa by its estimate: {task.best.candidate}" in own
    # the study at hand is that of the mean, whose best trial is another pair
    assert own.startswith("The best trial of this page")


def test_attributes_are_plain_numbers_and_words(result: StudyResult) -> None:
    shown = study_attributes(result)
    assert shown[ESTIMATE] == round(100 * result.winner.value, 1)
    assert result.full_runs
    assert shown[FULL_RUNS] == round(result.full_runs, 2)
    unknown = replace(result, winner=replace(result.winner, best=None))
    assert BEST not in study_attributes(unknown)


def test_pairs_that_were_given_up_are_attributes_of_the_study(result: StudyResult) -> None:
    shown = study_attributes(result_with_given_up())
    assert "loss is nan" in shown[GIVEN_UP]["clip + llama"]
    assert GIVEN_UP not in study_attributes(result)
