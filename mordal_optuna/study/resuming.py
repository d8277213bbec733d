"""Resuming a study: its configuration and inputs must be those it began with.

Both are stored just before the first device-seconds are spent. A study that has spent nothing, for
example because its first start was refused, accepts any configuration and inputs.
"""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import TYPE_CHECKING

import optuna

from mordal_optuna.config import adapted, as_begun, differences, growth_problems, kept_as_given
from mordal_optuna.errors import InputsChangedError, StudyMismatchError
from mordal_optuna.files.inputs import Change, Inputs, candidate_parts
from mordal_optuna.search.attributes import (
    CONFIG,
    FULL_SAMPLES,
    INPUTS,
    REPRESENTATION,
    TEMPLATE_DATE,
    store_value,
    stored_value,
)
from mordal_optuna.search.sampler import study_history
from mordal_optuna.study.claims import study_storage
from mordal_optuna.study.growing import earlier_study

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from optuna import Study

    from mordal_optuna.config import StudySettings
    from mordal_optuna.pool import Candidate
    from mordal_optuna.progress import Progress

_NUMBERED = re.compile(r"(?P<stem>.+?)(-(?P<count>\d+))?$")


def has_spent(study: Study) -> bool:
    """Whether a study has compared its models or started a trial."""
    return REPRESENTATION in study.user_attrs or bool(study.get_trials(deepcopy=False))


def resumed_settings(
    study: Study, settings: StudySettings, *, begun: bool = False
) -> StudySettings:
    """The settings to resume a study with: those of its file, with the defaults it began with.

    For a study that has spent nothing these are the file's settings. Later, options that the file
    leaves open have the values that `adapted` chose by D, or the schema's defaults if an older
    version began the study.

    Args:
        study: study to resume.
        settings: settings of the study file.
        begun: whether other workers have begun the study, though it may have spent nothing.

    Raises:
        StudyMismatchError: if the study began with another configuration.
    """
    stored = stored_value(study.user_attrs, CONFIG)
    if stored is None or not (begun or has_spent(study)):
        return settings
    settings = as_begun(settings, stored)
    full_samples = study.user_attrs.get(FULL_SAMPLES)
    chosen = adapted(settings, full_samples)[0] if full_samples else settings
    if stored == chosen.fingerprint():
        return chosen
    if stored == settings.fingerprint():
        return kept_as_given(settings)
    given = chosen.fingerprint()
    grown = not growth_problems(stored, given)
    raise StudyMismatchError(settings.study, differences(stored, given), grown=grown)


def with_template_date(
    study: Study, settings: StudySettings, *, begun: bool = False
) -> StudySettings:
    """The settings with the date that chat templates take for today, which stays the same.

    It is the day on which the study began, unless the study file gives another. A study that
    extends another has the other's date, so that nothing is trained again for another date. A
    study that an older version began has none, nor has one that extends such a study: templates
    write the real date, as they did.

    Args:
        study: study to begin or resume.
        settings: settings of the study file.
        begun: whether other workers have begun the study, though it may have spent nothing.

    Raises:
        StudyMismatchError: if the study began with another date than the study file gives.
        ConfigError: if the study to extend does not exist.
    """
    stored, given = study.user_attrs.get(TEMPLATE_DATE), settings.template_date
    begun = begun or has_spent(study)
    if stored is None and begun and given is None:
        return settings
    if stored is None or not begun:
        day = given or _first_day(settings)
        shown = day.isoformat() if day else None
        if stored != shown:
            study.set_user_attr(TEMPLATE_DATE, shown)
    else:
        day = date.fromisoformat(stored)
        if given not in (None, day):
            line = f"template_date: {stored} stored, {given} given"
            raise StudyMismatchError(settings.study, [line])
    return settings.model_copy(update={"template_date": day})


def _first_day(settings: StudySettings) -> date | None:
    """The day on which a study begins, or the date of the study that it extends."""
    if settings.extends is None:
        return datetime.now().astimezone().date()
    earlier = earlier_study(study_storage(settings.storage_url()), settings.extends)
    stored = earlier.user_attrs.get(TEMPLATE_DATE)
    return date.fromisoformat(stored) if stored else None


def forget_refused_start(study: Study) -> None:
    """Remove the configuration of a start that spent nothing; the caller begins the study now.

    Args:
        study: study that has spent nothing and on which nobody works.
    """
    for name in (CONFIG, INPUTS):
        if study.user_attrs.get(name) is not None:
            study.set_user_attr(name, None)


def begin(
    study: Study,
    settings: StudySettings,
    inputs: Inputs,
    progress: Progress,
    *,
    begun: bool = False,
) -> None:
    """Store configuration and inputs of a new study; compare those of a study that has begun.

    The caller must be the only process that does this now.

    Args:
        study: study to begin or resume.
        settings: configuration, adapted to D.
        inputs: digests of the present inputs.
        progress: receives a note if an older version stored no inputs.
        begun: whether other workers have begun the study, though it may have spent nothing.

    Raises:
        StudyMismatchError: if the study began with another configuration.
        InputsChangedError: if the study began with other inputs.
    """
    resumed_settings(study, settings, begun=begun)
    stored = stored_value(study.user_attrs, INPUTS)
    if (begun or has_spent(study)) and stored is not None:
        changes = Inputs(stored).changes(inputs)
        if changes:
            raise InputsChangedError(settings.study, changes)
        return
    if has_spent(study):
        progress.note(
            "an older version began this study and stored no digests of its inputs; only changes "
            "from now on are noticed"
        )
    store_value(study, INPUTS, inputs.to_json())
    store_value(study, CONFIG, settings.fingerprint())


def check_candidate(
    study: Study, settings: StudySettings, inputs: Inputs, candidate: Candidate
) -> None:
    """Verify that a candidate's models and data are those the study began with.

    Args:
        study: study of the candidate.
        settings: configuration of the study.
        inputs: digests of the present inputs.
        candidate: pair to check.

    Raises:
        InputsChangedError: if the data or one of the pair's models has changed.
    """
    stored = stored_value(study.user_attrs, INPUTS)
    parts = candidate_parts(candidate)
    changes = [c for c in Inputs(stored or {}).changes(inputs) if c.part in parts]
    if changes:
        raise InputsChangedError(settings.study, changes)


def with_advice(
    error: InputsChangedError,
    study: Study,
    settings: StudySettings,
    kept: Callable[[Candidate], Collection[int]],
) -> InputsChangedError:
    """Add to an error how to continue, and how many rungs that would reuse.

    Args:
        error: error that lists the changed inputs.
        study: study that refused to resume.
        settings: configuration of the study.
        kept: function that gives the rungs of a candidate with a checkpoint made from the present
            inputs.
    """
    changes = [change for change in error.changes if isinstance(change, Change)]
    changed = {change.part for change in changes}
    total = reused = 0
    for candidate, record in study_history(study).candidates.items():
        rungs = {point.samples for point in record.rungs}
        total += len(rungs)
        if rungs and not changed.intersection(candidate_parts(candidate)):
            reused += len(rungs.intersection(kept(candidate)))
    rescored = [name for name in _tasks_of_rungs(settings) if f"task:{name}" in changed]
    reuse = f"reusing {reused} of {total} rungs that are not affected"
    if rescored and reused:
        reuse = (
            f"reusing the checkpoints of {reused} of {total} rungs, which are only scored again "
            f"on {' and '.join(rescored)}"
        )
    way = (
        "put it back, or use the present inputs in a study of another name, by the same command "
        f"with `--as {free_name(settings)}`, {reuse}"
    )
    return InputsChangedError(error.study, changes, way)


def free_name(settings: StudySettings) -> str:
    """A study name that is free in the same database: NAME-2, NAME-3 and so on."""
    # Compared in lower case, since MySQL and MariaDB may ignore case.
    storage = study_storage(settings.storage_url())
    taken = {name.lower() for name in optuna.get_all_study_names(storage)}
    match = _NUMBERED.match(settings.study)
    assert match
    stem, count = match["stem"], int(match["count"] or 1) + 1
    while f"{stem}-{count}".lower() in taken:
        count += 1
    return f"{stem}-{count}"


def _tasks_of_rungs(settings: StudySettings) -> list[str]:
    """Names of the tasks on which every rung is scored."""
    further = settings.also_score if settings.also_score_at == "rungs" else ()
    return [task.name for task in (*settings.targets, *further)]
