"""What the dashboard shows follows the result, is replaced, and is not written twice."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import optuna
import pytest
from optuna.artifacts import FileSystemArtifactStore, get_all_artifact_meta
from optuna_dashboard import get_note
from sqlalchemy import create_engine, text

from mordal_optuna.reporting import task_words, words
from mordal_optuna.reporting.dashboard import attach_report, publish, study_address
from mordal_optuna.search.attributes import STATE, WINNER
from mordal_optuna.search.trials import sibling_study, trial_handles
from mordal_optuna.study.result import read_result
from tests.reporting.published import BROKEN, REASON, searched, served, shown_in_chromium
from tests.reporting.results import result_without_costs
from tests.search.several import BEST
from tests.search.synthetic import plan, search, table

if TYPE_CHECKING:
    from pathlib import Path

    from mordal_optuna.study.result import StudyResult


def test_publishing_twice_replaces_and_writes_only_what_has_changed(
    result: StudyResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    study = optuna.create_study(storage=storage)
    assert publish(study, result)
    first = _stored(storage)
    written: list[str] = []
    monkeypatch.setattr(
        "optuna_dashboard.save_plotly_graph_object",
        lambda _, __, *, graph_object_id: written.append(graph_object_id),
    )
    assert publish(study, result)
    assert _stored(storage) == first > 0
    assert written == []
    assert publish(study, replace(result, ranking=result.ranking[:-1]))
    assert "mordal-pairs" in written or "mordal-best" in written
    assert "mordal-costs" in written  # the grid is smaller
    assert not [name for name in written if "dendrogram" in name]


def _stored(storage: str) -> int:
    """Number of system attributes of the study."""
    with create_engine(storage).connect() as connection:
        count = connection.execute(text("select count(*) from study_system_attributes"))
        return int(count.scalar_one())


def test_a_complete_trials_note_follows_the_answer() -> None:
    """A complete trial may stop being the answer, and the estimate of its pair may change."""
    chosen = plan(finalists=3)
    study = search(chosen, table())
    found = read_result(study, chosen, method="mordal", task="gqa")
    assert publish(study, found)
    (handle,) = trial_handles(study, [study.best_trial])
    assert "This is the study's answer." in get_note(handle)
    assert f"{words.percent(found.winner.value)} % ({words.interval(found.winner)})" in get_note(
        handle
    )
    other = replace(found, winner=found.ranking[-1])
    assert publish(study, other, every_trial=False)
    assert "This is the study's answer." in get_note(handle), "left for the last call"
    assert publish(study, other)
    assert "This is the study's answer." not in get_note(handle)


def test_the_estimate_moves_to_the_note_of_a_pairs_newest_trial() -> None:
    chosen = plan(finalists=3)
    study = search(chosen, table(), n_trials=8)
    for trials in (8, 200):
        search(chosen, table(), study._storage, n_trials=trials - 8)
        found = read_result(study, chosen, method="mordal", task="gqa")
        assert publish(study, found)
    handles = trial_handles(study, study.trials)
    notes = [get_note(handle) for handle in handles]
    estimated = [note.splitlines()[0] for note in notes if "Present estimate" in note]
    assert len(estimated) == len(set(estimated)) == len({n.splitlines()[0] for n in notes})


def test_the_studys_attributes_tell_state_and_winner() -> None:
    study, found = result_without_costs()
    assert publish(study, found)
    assert study.user_attrs[WINNER] == str(found.winner.candidate)
    assert publish(study, replace(found, stopped_because="race won"))
    assert study.user_attrs[STATE] == "ended: race won"


def test_unknown_costs_are_said_to_be_unknown() -> None:
    study, found = result_without_costs()
    assert publish(study, found)
    assert "Cost: not known; the scores were reported without" in get_note(study)


def test_the_note_of_several_tasks_names_their_studies(several: StudyResult) -> None:
    """Without links as long as there are none."""
    study = optuna.create_study()
    assert publish(study, several)
    note = get_note(study)
    assert "'synthetic [gqa]', 'synthetic [chartqa]'" in note
    assert task_words.specialising(several) in note


def test_a_report_takes_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    study, report = optuna.create_study(), tmp_path / "s.html"
    for content in ("first", "second"):
        report.write_text(content)
        attach_report(study, report, tmp_path / "artifacts")
    (meta,) = get_all_artifact_meta(study)
    assert (meta.filename, meta.mimetype) == ("s.html", "text/html")
    store = FileSystemArtifactStore(tmp_path / "artifacts")
    assert store.open_reader(meta.artifact_id).read() == b"second"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_chromium_shows_figures_notes_attributes_and_report(tmp_path: Path) -> None:
    """On the pages themselves, after their scripts have run; links lead to existing pages."""
    found = searched(tmp_path)
    study, winner = found.study, str(found.result.winner.candidate)
    with served(found, tmp_path / "work") as server:
        page = shown_in_chromium(server + study_address(study))
        for title in ("Estimates of all pairs, %", "Probability of being the best pair"):
            assert title in page
        for figure in ("pairs", "best", "curves", "ranking", "costs", "dendrogram-0"):
            assert page.count(f'id="user-defined-plot:mordal-{figure}"') == 1
        assert page.count("main-svg") >= 2 * 6, "plotly has drawn"
        assert winner in page
        assert "synthetic.html" in page
        assert f"Best Trial (number={study.best_trial.number})" in page
        note = shown_in_chromium(f"{server}{study_address(study)}/note")
        assert words.percent(found.result.winner.value) in note
        others = {name: sibling_study(study, f"synthetic [{name}]") for name in BEST}
        addresses = {name: study_address(other) for name, other in others.items() if other}
        for name, address in addresses.items():
            assert f'<a href="{address}">synthetic [{name}]</a>' in note
        task = shown_in_chromium(f"{server}{addresses['gqa']}/note")
        assert f'<a href="{study_address(study)}">synthetic</a>' in task
        assert f"Best pair on gqa by its estimate: {BEST['gqa']}" in task
        failed = next(t for t in study.trials if t.user_attrs.get("reason") == REASON)
        trial = shown_in_chromium(f"{server}{study_address(study)}/trials?numbers={failed.number}")
        assert f"pair {BROKEN}" in trial.replace("<br>", " ")
        assert REASON in trial
