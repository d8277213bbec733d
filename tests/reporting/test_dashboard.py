"""The dashboard's notes and figures are replaced, follow the result and show no password."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import optuna
from optuna_dashboard import get_note
from sqlalchemy import create_engine, text

from mordal_optuna.reporting import task_words, words
from mordal_optuna.reporting.dashboard import dashboard_command, publish
from mordal_optuna.search.trials import trial_handles
from mordal_optuna.study.result import read_result
from tests.reporting.results import result_without_costs
from tests.search.synthetic import plan, search, table

if TYPE_CHECKING:
    from pathlib import Path

    from mordal_optuna.study.result import StudyResult


def test_publishing_twice_replaces(result: StudyResult, tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    study = optuna.create_study(storage=storage)
    assert publish(study, result)
    first = _stored(storage)
    assert publish(study, result)
    assert _stored(storage) == first > 0


def _stored(storage: str) -> int:
    """Number of system attributes of the study."""
    with create_engine(storage).connect() as connection:
        count = connection.execute(text("select count(*) from study_system_attributes"))
        return int(count.scalar_one())


def test_a_password_is_not_shown() -> None:
    shown = dashboard_command("postgresql+psycopg://me:secret@host/db")
    assert "secret" not in shown
    assert "me:***@host/db" in shown


def test_a_complete_trials_note_follows_the_answer() -> None:
    """Notes are written once, but a complete trial may stop being the answer."""
    chosen = plan(finalists=3)
    study = search(chosen, table())
    found = read_result(study, chosen, method="mordal", task="gqa")
    assert publish(study, found)
    (handle,) = trial_handles(study, [study.best_trial])
    assert "This is the study's answer." in get_note(handle)
    assert publish(study, replace(found, winner=found.ranking[-1]))
    assert "This is the study's answer." not in get_note(handle)


def test_the_note_begins_with_warnings_and_the_winner(result: StudyResult) -> None:
    study = optuna.create_study()
    assert publish(study, result)
    assert get_note(study).startswith(f"**{words.headline(result)}**")
    assert publish(study, replace(result, warnings=("no score is above chance",)))
    assert get_note(study).startswith("**Warning: no score is above chance.**")


def test_unknown_costs_are_said_to_be_unknown() -> None:
    study, found = result_without_costs()
    assert publish(study, found)
    assert "Cost: not known; the scores were reported without" in get_note(study)


def test_the_note_of_several_tasks_names_their_studies(several: StudyResult) -> None:
    study = optuna.create_study()
    assert publish(study, several)
    note = get_note(study)
    assert "'synthetic [gqa]', 'synthetic [chartqa]'" in note
    assert task_words.specialising(several) in note
