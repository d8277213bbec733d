"""Merging the trials of one candidate: scores, failures and costs, read off Optuna's trials.

A promoted candidate has several trials. Each repeats the scores of the trials before it and adds
new ones, so the first report of every rung counts.

A learning curve belongs to one configuration. If an objective asks for further parameters (a
learning rate), only trials with equal values of them are merged: those of the configuration that
has reached the highest rung, of equal ones the first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optuna.trial import TrialState

from mordal_optuna.pool import Candidate
from mordal_optuna.processes.liveness import has_ended
from mordal_optuna.search.attributes import (
    CARRIED,
    CONTINUES,
    DIED,
    FAILURE,
    INTERRUPTED,
    LOST_SECONDS,
    RETRY,
    RUNGS,
    STOOD_BACK,
    answers_attribute,
)
from mordal_optuna.search.curves import Measurement
from mordal_optuna.search.heartbeats import assignment_of
from mordal_optuna.search.space import PAIR_PARAMETERS
from mordal_optuna.search.tasks import PartialMeasurement, is_partial

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial


@dataclass(frozen=True)
class Parameter:
    """A parameter of a trial other than its pair, such as a learning rate.

    Attributes:
        name: name that the objective asks for.
        distribution: distribution that the value was sampled from.
        value: sampled value.
    """

    name: str
    distribution: BaseDistribution
    value: Any


def further_parameters(trial: FrozenTrial) -> tuple[Parameter, ...]:
    """The parameters of a trial other than its pair, by name."""
    return tuple(
        Parameter(name, trial.distributions[name], value)
        for name, value in sorted(trial.params.items())
        if name not in PAIR_PARAMETERS
    )


def trials_of_one_configuration(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The reporting trials of the configuration that has reached the highest rung.

    Args:
        trials: trials of one candidate, by number.
    """
    reporting = [trial for trial in trials if scored_samples(trial)]
    if not reporting or not any(further_parameters(trial) for trial in reporting):
        return reporting
    groups: dict[tuple[Parameter, ...], list[FrozenTrial]] = {}
    for trial in reporting:
        groups.setdefault(further_parameters(trial), []).append(trial)
    return max(groups.values(), key=lambda group: max(max(scored_samples(t)) for t in group))


def scored_samples(trial: FrozenTrial) -> set[int]:
    """The rungs, in samples, that a trial has reported or scored on some of several tasks."""
    return {*trial.intermediate_values, *(m.samples for m in _partial(trial))}


def merged_measurements(
    trials: Sequence[FrozenTrial], *, minimize: bool
) -> tuple[Measurement, ...]:
    """The scores of some trials by ascending samples, the first report of every rung.

    Reports of trials that measured the score precede those of trials that repeated it: a trial
    with a lower number may have begun later, and repeated scores carry no details.

    Args:
        trials: trials of one configuration, by number.
        minimize: whether the study reports errors, 1 - score, instead of scores.
    """
    measured: dict[int, Measurement] = {}
    for include_repeated in (False, True):
        for trial in trials:
            details = trial.user_attrs.get(RUNGS, {})
            for samples, value in trial.intermediate_values.items():
                has_details = str(samples) in details
                wanted = samples not in measured and (include_repeated or has_details)
                if wanted and is_score(value):
                    score = 1.0 - value if minimize else float(value)
                    measured[samples] = _measurement(trial, samples, score)
    return tuple(measured[samples] for samples in sorted(measured))


def merged_partial(
    trials: Sequence[FrozenTrial], whole: Collection[int]
) -> tuple[PartialMeasurement, ...]:
    """The scores of some trials at rungs that are scored on some tasks, by ascending samples.

    Args:
        trials: trials of one configuration, by number.
        whole: rungs, in samples, that are scored on all tasks.
    """
    found: dict[int, PartialMeasurement] = {}
    for trial in trials:
        for m in _partial(trial):
            if m.samples not in whole:
                # A later trial has stored the scores of earlier ones together with its own.
                before = found.get(m.samples)
                by_task = {**m.by_task, **(before.by_task if before else {})}
                found[m.samples] = PartialMeasurement(m.samples, by_task, m.time)
    return tuple(found[samples] for samples in sorted(found))


def _partial(trial: FrozenTrial) -> list[PartialMeasurement]:
    """What a trial has stored of rungs that it scored on some tasks."""
    rows = (
        PartialMeasurement.from_json(
            details, samples=int(samples), task_answers=_task_answers(trial, samples, details)
        )
        for samples, details in trial.user_attrs.get(RUNGS, {}).items()
        if is_partial(details)  # asked first, since this is called for every trial of a study
    )
    return [row for row in rows if row]


def _task_answers(
    trial: FrozenTrial, samples: int | str, details: Mapping[str, Any]
) -> dict[str, str | None]:
    return {
        name: trial.system_attrs.get(answers_attribute(int(samples), name))
        for name in details.get("tasks", {})
    }


def _measurement(trial: FrozenTrial, samples: int, score: float) -> Measurement:
    """A reported score with its details, which a trial that repeated it lacks."""
    details, attributes = trial.user_attrs.get(RUNGS, {}).get(str(samples), {}), trial.system_attrs
    return Measurement.from_json(
        details,
        samples=samples,
        score=score,
        answers=attributes.get(answers_attribute(samples)),
        task_answers=_task_answers(trial, samples, details),
    )


def carried_samples(trials: Iterable[FrozenTrial]) -> frozenset[int]:
    """Rungs, in samples, whose scores were carried over from another study.

    Args:
        trials: trials of one configuration.
    """
    carried = (trial for trial in trials if CARRIED in trial.user_attrs)
    return frozenset(
        samples
        for trial in carried
        for samples, value in trial.intermediate_values.items()
        if is_score(value)
    )


def carried_partial(trials: Iterable[FrozenTrial]) -> frozenset[tuple[int, str]]:
    """Rung, in samples, and task of carried scores at rungs that are scored on some tasks."""
    return frozenset(
        (m.samples, task)
        for trial in trials
        if CARRIED in trial.user_attrs
        for m in _partial(trial)
        for task in m.by_task
    )


def is_score(value: float) -> bool:
    """Whether a reported value can be a score, or an error: a number from 0 to 1."""
    return not math.isnan(value) and 0.0 <= value <= 1.0


def last_cleared_trials(trials: Iterable[FrozenTrial]) -> dict[Candidate | None, int]:
    """Trial numbers up to which failures no longer count, by candidate.

    The key None holds the number that applies to all candidates.
    """
    cleared: dict[Candidate | None, int] = {}
    for trial in trials:
        pairs = trial.user_attrs.get(RETRY, ())
        candidates = [None] if pairs == "all" else [Candidate(*pair) for pair in pairs]
        cleared.update(dict.fromkeys(candidates, trial.number))
    return cleared


def failure_of(trial: FrozenTrial) -> str | None:
    """Why the candidate failed in a trial; None without a failure or if it was interrupted."""
    return None if INTERRUPTED in trial.user_attrs else trial.user_attrs.get(FAILURE)


def deaths_since_score(trials: Iterable[FrozenTrial]) -> list[str]:
    """Reasons of the trials since the newest score whose worker died in the middle.

    Args:
        trials: trials of one candidate, by number.
    """
    died: list[str] = []
    for trial in trials:
        if trial.user_attrs.get(RUNGS):
            died = []
        if trial.user_attrs.get(DIED):
            died.append(str(trial.user_attrs.get(INTERRUPTED)))
    return died


def is_running(trial: FrozenTrial, dead: Collection[int] = ()) -> bool:
    """Whether a trial runs.

    Args:
        trial: the trial.
        dead: numbers of running trials whose worker is considered dead. A worker whose process has
            ended on this machine is recognised as well.
    """
    if trial.number in dead or trial.state != TrialState.RUNNING:
        return False
    assignment = assignment_of(trial)
    return assignment is None or not has_ended(assignment.owner)


def stopped_short(trial: FrozenTrial, top: int) -> bool:
    """Whether a trial ended, without a failure, before the rung that the plan had asked for.

    Args:
        trial: the trial.
        top: highest rung that the candidate is scored at in any trial; rungs up to it do not
            count.
    """
    if trial.state not in (TrialState.PRUNED, TrialState.COMPLETE):
        return False
    assignment = assignment_of(trial)
    return (
        assignment is not None
        and assignment.samples > top
        and (STOOD_BACK not in trial.user_attrs)
    )


def reports_no_costs(trial: FrozenTrial) -> bool:
    """Whether a trial has ended with scores of a plain objective, which reports no costs."""
    # Scores that were carried over have their costs in the study that paid for them.
    reported = trial.user_attrs.keys() & {RUNGS, CONTINUES, LOST_SECONDS, CARRIED}
    ended = trial.state in (TrialState.PRUNED, TrialState.COMPLETE)
    return ended and bool(trial.intermediate_values) and not reported


def other_seconds(trial: FrozenTrial) -> float:
    """Device-seconds of a trial that are in none of its scores.

    These are the seconds lost by a failure, and the duration of a trial that reports no costs.
    """
    lost = float(trial.user_attrs.get(LOST_SECONDS, 0.0))
    if not reports_no_costs(trial) or trial.datetime_start is None:
        return lost
    assert trial.datetime_complete is not None
    return (trial.datetime_complete - trial.datetime_start).total_seconds()
