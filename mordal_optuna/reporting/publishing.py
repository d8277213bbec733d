"""Keeping optuna-dashboard up to date while workers search, at little cost.

Any number of workers may share a study. One of them writes at a time, under a lock, and reads the
scores inside it, so that an older state never replaces a newer one. A pause follows each update:
the workers share a shortest one by a lease in the study's database that is left to expire, and
each worker adds its own, by which updates take at most 2 % of its time.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from optuna.study import StudyDirection
from optuna.trial import TrialState

from mordal_optuna.reporting import words
from mordal_optuna.reporting.dashboard import attach_report, is_installed, publish
from mordal_optuna.search.attributes import (
    COST,
    ESTIMATE,
    FAILURE,
    INTERRUPTED,
    INTERVAL,
    MEASURED,
    PROVENANCE,
    REASON,
    SAMPLES,
    SHOWN_PAIR,
    STOOD_BACK,
)
from mordal_optuna.search.history import HistoryReader, candidate_of
from mordal_optuna.study.ownership import open_runs, owned
from mordal_optuna.study.result import read_result
from mordal_optuna.study.task_studies import task_study_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from optuna import Study
    from optuna.trial import FrozenTrial

    from mordal_optuna.search.plan import Plan
    from mordal_optuna.search.ranking import Estimate
    from mordal_optuna.study.result import StudyResult

# Shortest time between two updates of a study by all its workers.
LEAST_SECONDS = 30.0
# Largest share of a worker's time that its updates take.
_SHARE = 0.02
_POLL_SECONDS = 0.5
_STOPPED = "other pairs are more promising, or a later trial continues this one"
_MEASURED = "measured at the highest rung of the search"


class Publisher:
    """What a worker tells the dashboard: of each trial at its end, of the study now and then."""

    def __init__(
        self,
        study: Study,
        plan: Plan,
        *,
        address: str,
        method: str,
        task: str,
        tasks: Mapping[str, float] | None = None,
        least_seconds: float = LEAST_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Set up a publisher.

        Args:
            study: the study that the worker runs.
            plan: its plan.
            address: SQLAlchemy address of a database that all workers of the study share.
            method: name of the search method, for display.
            task: name of the target task, for display.
            tasks: weight of each target task by its name, if there are several.
            least_seconds: shortest time between two updates by all workers, above 0.
            clock: function that gives a monotonic time in seconds.

        Raises:
            StoreError: if the database cannot be used.
        """
        self._study = study
        self._plan = plan
        self._method = method
        self._task = task
        self._tasks = tasks
        self._reader = HistoryReader(plan)
        self._rows = open_runs(address)
        self._pauses = open_runs(address, lease_seconds=least_seconds)
        self._least = least_seconds
        self._clock = clock
        self._next = clock()

    def update(self) -> None:
        """Publish the result so far, unless an update was made a short time ago.

        Raises:
            StoreError: if the database cannot be used.
        """
        begun = self._clock()
        if begun < self._next or not is_installed():
            return
        self._next = begun + self._least
        pause = task_study_name(self._study.study_name, "dashboard pause")
        self._pauses.remove_abandoned(study=pause)
        if not self._pauses.acquire(study=pause):
            return
        with owned(self._rows, _lock(self._study)) as lease:
            if lease is None or not self._has_scores():
                return
            result = read_result(
                self._study, self._plan, method=self._method, task=self._task, tasks=self._tasks
            )
            publish(self._study, result, every_trial=False)
        ended = self._clock()
        self._next = ended + max(self._least, (ended - begun) / _SHARE)

    def describe(
        self, number: int, state: TrialState, trials: Sequence[FrozenTrial] | None = None
    ) -> dict[str, Any]:
        """User attributes in plain words of a trial that is about to end.

        Optuna allows no change of a trial that has ended, so that estimates are those of this
        moment; the note of a pair's newest trial has the present ones.

        Args:
            number: number of the running trial.
            state: state in which it will end.
            trials: all trials by number, read after the trial's last change; None to read them.
        """
        trials = trials or self._study.get_trials(deepcopy=False)
        trial = next(t for t in trials if t.number == number)
        candidate = candidate_of(trial)
        if candidate is None or STOOD_BACK in trial.user_attrs:
            return {}
        minimize = self._study.direction == StudyDirection.MINIMIZE
        history = self._reader.read(trials, minimize=minimize)
        record = history.of(candidate)
        shown: dict[str, Any] = {SHOWN_PAIR: str(candidate)}
        if record.measurements:
            ranking = self._plan.ranker.rank_trained(history)
            shown |= _estimated(next(e for e in ranking if e.candidate == candidate))
            last = record.measurements[-1]
            shown |= {MEASURED: round(100 * last.score, 1), SAMPLES: last.samples}
        if record.seconds:
            shown[COST] = round(record.seconds, 1)
        return {**shown, REASON: _reason(trial, state)}

    def _has_scores(self) -> bool:
        return any(t.intermediate_values for t in self._study.get_trials(deepcopy=False))


def publish_in_turn(
    address: str,
    study: Study,
    result: StudyResult,
    *,
    report: Path | None = None,
    folder: Path | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Publish a result, and its report as an artifact, when no worker publishes.

    Args:
        address: SQLAlchemy address of the study's database.
        study: study of the result.
        result: result to publish.
        report: the HTML report; None to leave the artifacts alone.
        folder: folder of the artifacts; needed with a report.
        sleep: function that waits for a number of seconds.

    Returns:
        False if optuna-dashboard is not installed.

    Raises:
        StoreError: if the database cannot be used.
    """
    if not is_installed():
        return False
    rows = open_runs(address)
    while True:
        with owned(rows, _lock(study)) as lease:
            if lease is not None:
                if report and folder:
                    attach_report(study, report, folder)
                return publish(study, result)
        sleep(_POLL_SECONDS)


def _lock(study: Study) -> str:
    return task_study_name(study.study_name, "dashboard")


def _estimated(estimate: Estimate) -> dict[str, Any]:
    return {
        ESTIMATE: round(100 * estimate.value, 1),
        INTERVAL: words.interval(estimate),
        PROVENANCE: words.provenance(estimate),
    }


def _reason(trial: FrozenTrial, state: TrialState) -> str:
    """Why a trial ends, in words."""
    if state == TrialState.COMPLETE:
        return _MEASURED
    if state == TrialState.PRUNED:
        return f"stopped at {max(trial.intermediate_values, default=0):,} samples: {_STOPPED}"
    stored = trial.user_attrs.get(FAILURE) or trial.user_attrs.get(INTERRUPTED)
    return str(stored or "failed by an error of the program; its worker shows it")
