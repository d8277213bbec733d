"""Whether a study may go on: it must have the configuration and the inputs it began with.

Both are stored just before the first device-seconds are spent. A study that has spent nothing, be
it that a start was refused, takes whatever it is given.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import optuna

from mordal_optuna.config import adapted, differences, kept_as_given
from mordal_optuna.errors import InputsChangedError, StudyMismatchError
from mordal_optuna.files.inputs import Change, Inputs, candidate_parts
from mordal_optuna.search.attributes import (
    CONFIG,
    FULL_SAMPLES,
    INPUTS,
    REPRESENTATION,
    store_value,
    stored_value,
)
from mordal_optuna.search.sampler import study_history
from mordal_optuna.study.claims import study_storage

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from optuna import Study

    from mordal_optuna.config import StudySettings
    from mordal_optuna.pool import Candidate
    from mordal_optuna.progress import Progress

_NUMBERED = re.compile(r"(?P<stem>.+?)(-(?P<count>\d+))?$")


def has_spent(study: Study) -> bool:
    """Whether a study has compared its models or begun a trial."""
    return REPRESENTATION in study.user_attrs or bool(study.get_trials(deepcopy=False))


def configured(study: Study, settings: StudySettings) -> StudySettings:
    """The settings that a study goes on with: its file's, with the defaults it began with.

    Before it has spent anything these are the file's own; then with what `adapted` chose by D. A
    study that an older version began keeps the schema's defaults.

    Raises:
        StudyMismatchError: if it has begun with another configuration.
    """
    stored = stored_value(study.user_attrs, CONFIG)
    if stored is None or not has_spent(study):
        return settings
    full_samples = study.user_attrs.get(FULL_SAMPLES)
    chosen = adapted(settings, full_samples)[0] if full_samples else settings
    if stored == chosen.fingerprint():
        return chosen
    if stored == settings.fingerprint():
        return kept_as_given(settings)
    raise StudyMismatchError(settings.study, differences(stored, chosen.fingerprint()))


def begin(study: Study, settings: StudySettings, inputs: Inputs, progress: Progress) -> None:
    """Store what a study begins with; compare it where the study has begun.

    The caller is the only one that runs the study.

    Args:
        study: the study.
        settings: its configuration, adapted to D.
        inputs: the present ones.
        progress: is told where an older version stored no inputs.

    Raises:
        StudyMismatchError: if it has begun with another configuration.
        InputsChangedError: if it has begun with other inputs.
    """
    configured(study, settings)
    stored = stored_value(study.user_attrs, INPUTS)
    if has_spent(study) and stored is not None:
        changes = Inputs(stored).changes(inputs)
        if changes:
            raise InputsChangedError(settings.study, changes)
        return
    if has_spent(study):
        progress.note(
            "an older version began this study and stored no digests of its inputs; changes are "
            "noticed from now on"
        )
    store_value(study, INPUTS, inputs.to_json())
    store_value(study, CONFIG, settings.fingerprint())


def check_candidate(
    study: Study, settings: StudySettings, inputs: Inputs, candidate: Candidate
) -> None:
    """Refuse to take for a candidate of a study what has changed since.

    Args:
        study: the study.
        settings: its configuration.
        inputs: the present ones.
        candidate: the pair.

    Raises:
        InputsChangedError: if the data or one of its models has changed.
    """
    stored = stored_value(study.user_attrs, INPUTS)
    parts = candidate_parts(candidate)
    changes = [c for c in Inputs(stored or {}).changes(inputs) if c.part in parts]
    if changes:
        raise InputsChangedError(settings.study, changes)


def with_way_on(
    error: InputsChangedError,
    study: Study,
    settings: StudySettings,
    kept: Callable[[Candidate], Collection[int]],
) -> InputsChangedError:
    """The same error with how to go on, and what that reuses.

    Args:
        error: names what has changed.
        study: the study.
        settings: its configuration.
        kept: rungs of a candidate that have a checkpoint made of the present inputs.
    """
    changes = [change for change in error.changes if isinstance(change, Change)]
    changed = {change.part for change in changes}
    total = reused = 0
    for candidate, known in study_history(study).candidates.items():
        rungs = {point.samples for point in known.measurements}
        total += len(rungs)
        if rungs and not changed.intersection(candidate_parts(candidate)):
            reused += len(rungs.intersection(kept(candidate)))
    again = [name for name in _tasks_of_rungs(settings) if f"task:{name}" in changed]
    told = f"reusing {reused} of {total} rungs that are not affected"
    if again and reused:
        told = (
            f"reusing the checkpoints of {reused} of {total} rungs, which are only scored again "
            f"on {' and '.join(again)}"
        )
    way = (
        "put it back, or go on with what is there now as a study of another name, by the same "
        f"command with `--as {free_name(settings)}`, {told}"
    )
    return InputsChangedError(error.study, changes, way)


def free_name(settings: StudySettings) -> str:
    """A name that no study in the same database has: NAME-2, NAME-3 and so on."""
    # In lower case: MySQL and MariaDB may not tell names of another case apart.
    storage = study_storage(settings.storage_url())
    taken = {name.lower() for name in optuna.get_all_study_names(storage)}
    found = _NUMBERED.match(settings.study)
    assert found
    stem, count = found["stem"], int(found["count"] or 1) + 1
    while f"{stem}-{count}".lower() in taken:
        count += 1
    return f"{stem}-{count}"


def _tasks_of_rungs(settings: StudySettings) -> list[str]:
    """Names of the tasks that every rung is scored on."""
    further = settings.also_score if settings.also_score_at == "rungs" else ()
    return [task.name for task in (settings.task, *further)]
