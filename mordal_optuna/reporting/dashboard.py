"""The result in optuna-dashboard: figures, notes, attributes and the report on a study's page."""

from __future__ import annotations

import re
from hashlib import sha256
from importlib.util import find_spec
from typing import TYPE_CHECKING

from optuna.artifacts import FileSystemArtifactStore, upload_artifact
from optuna.trial import TrialState

from mordal_optuna.reporting.dashboard_figures import dashboard_figures, task_figures
from mordal_optuna.reporting.dashboard_notes import (
    study_attributes,
    study_note,
    task_note,
    trial_note,
)
from mordal_optuna.search.attributes import NOTED, REPORT, SHOWN, store_value, stored_value
from mordal_optuna.search.history import candidate_of
from mordal_optuna.search.trials import sibling_study, study_number, trial_handles
from mordal_optuna.study.task_studies import task_study_name

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import plotly.graph_objects as go
    from optuna import Study
    from optuna.trial import FrozenTrial

    from mordal_optuna.study.result import StudyResult

# Identifiers of Optuna's artifacts.
_IDENTIFIER = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def is_installed() -> bool:
    """Whether optuna-dashboard is installed, as by `--extra dashboard`."""
    return find_spec("optuna_dashboard") is not None


def publish(study: Study, result: StudyResult, *, every_trial: bool = True) -> bool:
    """Publish figures, notes and attributes on the study's page and those of its tasks.

    A later call replaces them. What has not changed is not written again.

    Args:
        study: study whose storage holds figures and notes.
        result: result to publish.
        every_trial: whether notes that later scores can change, those of complete trials and of
            the newest trial of each pair, are written again; otherwise only the notes of trials
            that have ended since the last call.

    Returns:
        False if optuna-dashboard is not installed.
    """
    if not is_installed():
        return False
    on_tasks = {
        task.name: other
        for task in result.tasks
        if (other := sibling_study(study, task_study_name(study.study_name, task.name)))
    }
    links = {name: study_address(other) for name, other in on_tasks.items()}
    report = study.user_attrs.get(REPORT)
    address = f"/artifacts/{study_number(study)}/{report}" if report else None
    page = _Page(study)
    page.show(dashboard_figures(result), study_note(study, result, links=links, report=address))
    _note_trials(page, result, every_trial=every_trial)
    page.close()
    for name, value in study_attributes(result).items():
        if study.user_attrs.get(name) != value:
            study.set_user_attr(name, value)
    for task in result.tasks:
        other = on_tasks.get(task.name)
        if other:
            page = _Page(other)
            note = task_note(other, result, task, main=study_address(study), links=links)
            page.show(task_figures(result, task), note)
            page.close()
    return True


def study_address(study: Study) -> str:
    """Address of a study's page, below that of the dashboard's server."""
    return f"/dashboard/studies/{study_number(study)}"


def artifact_folder(workdir: Path) -> Path:
    """The folder of a study's artifacts, in its work folder."""
    return workdir / "artifacts"


def attach_report(study: Study, report: Path, folder: Path) -> None:
    """Put the HTML report among the artifacts of the study, in place of an earlier one.

    A report that the user has deleted from the dashboard stays deleted.

    Args:
        study: study that the report is about.
        report: the HTML file.
        folder: folder of the artifacts; created if it does not exist.
    """
    folder.mkdir(parents=True, exist_ok=True)
    store = FileSystemArtifactStore(folder)
    known = study.user_attrs.get(REPORT)
    # It becomes the name of a file; anything else in the database is replaced.
    if known and _IDENTIFIER.fullmatch(str(known)):
        with report.open("rb") as content:
            store.write(known, content)
        return
    identifier = upload_artifact(artifact_store=store, file_path=str(report), study_or_trial=study)
    study.set_user_attr(REPORT, identifier)


class _Page:
    """What is shown of one study; the storage has a digest of each figure and note.

    A figure takes a dozen writes, so that most of the time goes into what has not changed.
    """

    def __init__(self, study: Study) -> None:
        self.study = study
        self._digests: dict[str, str] = dict(stored_value(study.user_attrs, SHOWN) or {})
        self._before = dict(self._digests)

    def show(self, figures: Mapping[str, go.Figure], note: str) -> None:
        """Replace the figures, by their ids, and the study's note."""
        from optuna_dashboard import save_note, save_plotly_graph_object

        for name, figure in figures.items():
            if self.is_new(name, figure.to_json()):
                save_plotly_graph_object(self.study, figure, graph_object_id=name)
        if self.is_new("note", note):
            save_note(self.study, note)

    def has(self, name: str) -> bool:
        """Whether a figure or note of this name is shown."""
        return name in self._digests

    def is_new(self, name: str, text: str) -> bool:
        """Whether a text differs from the one that is shown; remembers it."""
        digest = sha256(text.encode()).hexdigest()[:16]
        if self._digests.get(name) == digest:
            return False
        self._digests[name] = digest
        return True

    def close(self) -> None:
        """Store the digests, after what they stand for, so that a killed process writes again."""
        if self._digests != self._before:
            store_value(self.study, SHOWN, self._digests)


def _note_trials(page: _Page, result: StudyResult, *, every_trial: bool) -> None:
    """Write the notes of trials that ended since the last call, and those that may have changed.

    Whether a complete trial is the study's answer can change, and so can the present estimate,
    which is in the note of a pair's newest trial; the other notes cannot.
    """
    from optuna_dashboard import save_note

    study = page.study
    noted = study.user_attrs.get(NOTED, 0)
    trials = study.get_trials(deepcopy=False)
    ended = [trial for trial in trials if trial.state.is_finished()]
    newest = {candidate_of(trial): trial.number for trial in ended} if every_trial else {}
    texts: list[tuple[FrozenTrial, str]] = []
    for trial in ended:
        is_newest = newest.get(candidate_of(trial)) == trial.number
        was_newest = page.has(f"trial {trial.number}")
        complete = trial.state == TrialState.COMPLETE
        changing = every_trial and (is_newest or was_newest or complete)
        if trial.number < noted and not changing:
            continue
        text = trial_note(trial, result, newest=is_newest)
        if text and (not changing or page.is_new(f"trial {trial.number}", text)):
            texts.append((trial, text))
    handles = trial_handles(study, [trial for trial, _ in texts])
    for (_, text), handle in zip(texts, handles, strict=True):
        save_note(handle, text)
    running = [trial.number for trial in trials if not trial.state.is_finished()]
    until = min(running, default=len(trials))
    if until != noted:
        study.set_user_attr(NOTED, until)
