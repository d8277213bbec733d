"""A study for each target task beside a study of several, so that dashboards show every task.

The main study holds the weighted mean of the tasks' scores, and all decisions are made there. The
study `NAME [TASK]` in the same storage holds the same trials with the scores on one task. It is
filled from the main study's finished trials, and nothing is read from it. Each of its trials has
the number of its main trial, and one worker fills at a time, so no trial is added twice.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from mordal_optuna.errors import LeaseLostError, SearchError
from mordal_optuna.search.attributes import (
    CARRIED,
    CONTINUES,
    COST,
    FAILURE,
    FILLED_FROM,
    IDENTITY,
    INTERRUPTED,
    MAIN_TRIAL,
    NAME,
    REASON,
    RUNGS,
    SHOWN_PAIR,
    STOOD_BACK,
)
from mordal_optuna.search.history import HistoryReader, candidate_of
from mordal_optuna.search.merging import scored_samples
from mordal_optuna.study.ownership import LEASE_SECONDS, open_runs, owned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from optuna import Study
    from optuna.storages import BaseStorage

    from mordal_optuna.search.history import CandidateHistory, History
    from mordal_optuna.search.plan import Plan
    from mordal_optuna.study.ownership import Lease

# Attributes that a trial shares with its main trial. Numbers in them are those of main trials; in
# `CARRIED`, of trials of the study that the main study extends.
_SHARED = (
    NAME,
    CARRIED,
    CONTINUES,
    FAILURE,
    INTERRUPTED,
    STOOD_BACK,
    SHOWN_PAIR,
    COST,
    REASON,
)
_POLL_SECONDS = 0.5


def task_study_name(study: str, task: str) -> str:
    """Name of the study that holds the scores on one task.

    Args:
        study: name of the main study.
        task: name of the task.
    """
    return f"{study} [{task}]"


class TaskStudies:
    """The studies of a main study's tasks; any number of workers may fill them."""

    def __init__(
        self,
        study: Study,
        plan: Plan,
        tasks: Iterable[str],
        *,
        storage: BaseStorage,
        address: str,
        lease_seconds: float = LEASE_SECONDS,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Open the studies; they are created if they do not exist.

        Args:
            study: main study, whose scores are weighted means over the tasks.
            plan: plan of the main study; it gives the values of complete trials.
            tasks: names of the tasks.
            storage: storage of the main study; it holds the other studies as well.
            address: SQLAlchemy address of a database that all workers share, which holds the lock.
            lease_seconds: length of the lock's lease, above 0: a worker that is silent for so long
                loses the lock.
            sleep: function that waits for a number of seconds.

        Raises:
            SearchError: if a study of such a name was not filled from the main study.
            StoreError: if the database cannot be used.
        """
        self._study = study
        self._plan = plan
        self._reader = HistoryReader(plan)
        self._rows = open_runs(address, lease_seconds=lease_seconds)
        self._lock = task_study_name(study.study_name, "tasks")
        self._sleep = sleep
        self._studies = {task: self._open(task, storage) for task in tasks}

    def update(self) -> None:
        """Add the main study's finished trials that are missing.

        Nothing is done while another worker does it; trials that end meanwhile are added by a
        later call.

        Raises:
            StoreError: if the database cannot be used.
        """
        self._filled()

    def complete(self) -> None:
        """Add the trials that are missing; wait while another worker does it.

        Raises:
            StoreError: if the database cannot be used.
        """
        while not self._filled():
            self._sleep(_POLL_SECONDS)

    def _open(self, task: str, storage: BaseStorage) -> Study:
        name = task_study_name(self._study.study_name, task)
        study = optuna.create_study(
            study_name=name,
            storage=storage,
            direction=self._study.direction,
            load_if_exists=True,
        )
        # A study that was deleted and created again has the same name and other trials.
        identity = self._study.user_attrs.get(IDENTITY, self._study.study_name)
        if FILLED_FROM not in study.user_attrs and not study.get_trials(deepcopy=False):
            study.set_user_attr(FILLED_FROM, identity)
        if study.user_attrs.get(FILLED_FROM) != identity:
            raise SearchError(
                f"study {name!r} exists and holds other trials than those of the present study "
                f"{self._study.study_name!r}; delete it, or give this study another name"
            )
        return study

    def _filled(self) -> bool:
        """Add the missing trials; False if another worker holds the lock."""
        with owned(self._rows, self._lock) as lease:
            if lease is not None:
                with suppress(LeaseLostError):
                    self._fill(lease)
                    return True
        return False

    def _fill(self, lease: Lease) -> None:
        trials = self._study.get_trials(deepcopy=False)
        minimize = self._study.direction == StudyDirection.MINIMIZE
        history = self._reader.read(trials, minimize=minimize)
        ended = [t for t in trials if t.state.is_finished() and candidate_of(t)]
        for task, study in self._studies.items():
            known = {t.user_attrs.get(MAIN_TRIAL) for t in study.get_trials(deepcopy=False)}
            missing = [trial for trial in ended if trial.number not in known]
            scores = history.of_task(task) if missing else history
            for trial in missing:
                lease.check()
                study.add_trial(self._of_task(trial, task, scores, minimize=minimize))

    def _of_task(
        self, trial: FrozenTrial, task: str, scores: History, *, minimize: bool
    ) -> FrozenTrial:
        """A main trial with the scores on one task.

        Args:
            trial: finished trial of the main study.
            task: name of the task.
            scores: history of the task.
            minimize: whether the studies hold errors, 1 - score.
        """
        candidate = candidate_of(trial)
        assert candidate is not None
        own = _own_details(trial, task)
        reported = _scores(trial, own, scores.of(candidate))
        value = None
        if trial.state == TrialState.COMPLETE:
            value = self._plan.answer(scores, candidate)
        # A plain objective may have scored a trial on other tasks only.
        incomplete = trial.state == TrialState.COMPLETE and value is None
        shared = {key: trial.user_attrs[key] for key in _SHARED if key in trial.user_attrs}
        details = {
            samples: {k: v for k, v in stored.items() if k != "score"}
            for samples, stored in own.items()
        }
        return FrozenTrial(
            number=-1,  # the storage numbers it
            trial_id=-1,
            state=TrialState.PRUNED if incomplete else trial.state,
            value=1.0 - value if minimize and value is not None else value,
            datetime_start=trial.datetime_start,
            datetime_complete=trial.datetime_complete,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs={**shared, RUNGS: details, MAIN_TRIAL: trial.number},
            system_attrs={},
            intermediate_values={
                samples: 1.0 - score if minimize else score for samples, score in reported.items()
            },
        )


def _own_details(trial: FrozenTrial, task: str) -> dict[str, Mapping[str, Any]]:
    """What a trial stored of its own scores on a task, by samples.

    Details without a report count only if the rung was scored on some tasks: others belong to a
    worker that died before it could report.
    """
    scored = scored_samples(trial)
    return {
        samples: stored["tasks"][task]
        for samples, stored in trial.user_attrs.get(RUNGS, {}).items()
        if task in stored.get("tasks", {}) and int(samples) in scored
    }


def _scores(
    trial: FrozenTrial, own: Mapping[str, Mapping[str, Any]], record: CandidateHistory
) -> dict[int, float]:
    """Scores on a task at each rung of a trial, including repeated ones, which have no details."""
    scores = {int(samples): float(stored["score"]) for samples, stored in own.items()}
    for samples in trial.intermediate_values:
        measurement = record.at(samples)
        if measurement and samples not in scores:
            scores[samples] = measurement.score
    return dict(sorted(scores.items()))
