"""A study for each task: filled once by any number of workers, and as complete as the main one."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

import optuna
import pytest
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from mordal_optuna.errors import SearchError, TrainingError
from mordal_optuna.pool import Candidate
from mordal_optuna.search.attributes import (
    FAILURE,
    IDENTITY,
    MAIN_TRIAL,
    NAME,
    STOPPED_BECAUSE,
)
from mordal_optuna.search.history import candidate_of
from mordal_optuna.search.jobs import Finished, Job
from mordal_optuna.search.methods.joint import JointPlan
from mordal_optuna.search.pruner import LogLinearHalvingPruner
from mordal_optuna.search.sampler import CkaClusterSampler, study_history
from mordal_optuna.study.claims import ClaimStore, study_storage
from mordal_optuna.study.objective import Objective
from mordal_optuna.study.ownership import open_runs, owned
from mordal_optuna.study.task_studies import TaskStudies, task_study_name
from mordal_optuna.study.worker import Worker
from tests.search import partly
from tests.search.partly import FULL, RUNGS, TREE, TwoTasks
from tests.search.several import BEST, WEIGHTS, Several
from tests.search.synthetic import plan

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from optuna.storages import BaseStorage

    from mordal_optuna.search.curves import Measurement
    from mordal_optuna.search.history import History
    from mordal_optuna.study.objective import Measure


class Setting:
    """A main study and the database with its claims and locks."""

    def __init__(self, folder: Path, storage: BaseStorage | None = None) -> None:
        """By default trials are in memory; a file is slow, and only several workers need it."""
        self.address = f"sqlite:///{folder / 'study.db'}"
        self.storage = storage or InMemoryStorage()

    def main(self) -> optuna.Study:
        """The main study; created by the first call."""
        chosen = plan()
        return optuna.create_study(
            study_name="several",
            storage=self.storage,
            direction="maximize",
            sampler=CkaClusterSampler(chosen, seed=0),
            pruner=LogLinearHalvingPruner(chosen),
            load_if_exists=True,
        )

    def of_task(self, task: str) -> optuna.Study:
        """The study of a task."""
        return optuna.load_study(study_name=f"several [{task}]", storage=self.storage)

    def tasks(self, sleep: Callable[[float], None] = time.sleep) -> TaskStudies:
        """The studies of all tasks, as one worker opens them."""
        return TaskStudies(
            self.main(), plan(), WEIGHTS, storage=self.storage, address=self.address, sleep=sleep
        )

    def run_worker(self, measure: Measure) -> None:
        """A worker from its start to the end of the search."""
        chosen, claims = plan(), ClaimStore(self.address, "several")
        Worker(
            self.main(),
            chosen,
            Objective(chosen, measure, claims=claims),
            claims,
            patience_seconds=60,
            poll_seconds=0.02,
            task_studies=self.tasks(),
        ).run()


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting(tmp_path)


def test_each_task_has_the_trials_with_its_own_scores(setting: Setting) -> None:
    setting.run_worker(Several())
    main = setting.main()
    history = study_history(main)
    for task in WEIGHTS:
        study = setting.of_task(task)
        assert [t.user_attrs[MAIN_TRIAL] for t in study.trials] == [t.number for t in main.trials]
        own = history.of_task(task)
        for trial, origin in zip(study.trials, main.trials, strict=True):
            assert (trial.state, trial.params) == (origin.state, origin.params)
            assert trial.user_attrs[NAME] == origin.user_attrs[NAME]
            assert trial.datetime_complete == origin.datetime_complete
            record = own.of(candidate_of(origin))
            assert trial.intermediate_values == {
                samples: record.at(samples).score for samples in origin.intermediate_values
            }
            if trial.state == TrialState.COMPLETE:
                assert trial.value == record.at(plan().answer_rung).score
        # Read as a study of its own it has the same scores, with their noise.
        assert [r.measurements for r in study_history(study).candidates.values()] == [
            r.measurements for r in own.candidates.values()
        ]
    assert STOPPED_BECAUSE in main.user_attrs


@pytest.mark.slow
def test_four_workers_add_every_trial_once(tmp_path: Path) -> None:
    """Each with connections of its own; none waits for the others before it adds its trials."""
    address = f"sqlite:///{tmp_path / 'study.db'}"
    settings = [Setting(tmp_path, study_storage(address)) for _ in range(4)]
    settings[0].tasks()
    threads = [
        threading.Thread(target=setting.run_worker, args=(Several(),)) for setting in settings
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ended = Counter(t.number for t in settings[0].main().trials if candidate_of(t))
    assert len(ended) > 8
    for task in WEIGHTS:
        trials = settings[0].of_task(task).trials
        assert Counter(t.user_attrs[MAIN_TRIAL] for t in trials) == ended


def test_what_a_killed_worker_left_out_is_added_later(setting: Setting) -> None:
    """Half of the trials on one task, and none on the other."""
    chosen = plan()
    setting.main().optimize(Objective(chosen, Several()), n_trials=6)
    studies = setting.tasks()
    studies.update()
    setting.main().optimize(Objective(chosen, Several()), n_trials=2)
    setting.tasks().complete()
    setting.tasks().complete()  # nothing left to do
    for task in WEIGHTS:
        numbers = [t.user_attrs[MAIN_TRIAL] for t in setting.of_task(task).trials]
        assert numbers == list(range(8))


def test_the_studies_are_filled_in_every_database(database: str, tmp_path: Path) -> None:
    setting = Setting(tmp_path, study_storage(database))
    setting.address = database
    setting.main().optimize(Objective(plan(), Several()), n_trials=2)
    for _ in range(2):
        setting.tasks().update()
    main = setting.main().trials
    for task in WEIGHTS:
        trials = setting.of_task(task).trials
        assert [t.user_attrs[MAIN_TRIAL] for t in trials] == [0, 1]
        assert [t.params for t in trials] == [t.params for t in main]
        for trial, origin in zip(trials, main, strict=True):
            assert trial.intermediate_values.keys() == origin.intermediate_values.keys()


def test_a_worker_with_nothing_left_to_do_adds_what_is_missing(setting: Setting) -> None:
    """The last worker was killed between the end of its trial and the filling."""
    setting.main().optimize(Objective(plan(), Several()))
    setting.run_worker(Several())
    ended = [trial.number for trial in setting.main().trials]
    assert [t.user_attrs[MAIN_TRIAL] for t in setting.of_task("gqa").trials] == ended


def test_while_another_worker_fills_only_the_end_of_the_search_waits(setting: Setting) -> None:
    setting.main().optimize(Objective(plan(), Several()), n_trials=1)
    rows, name = open_runs(setting.address), task_study_name("several", "tasks")
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        rows.release(study=name)

    with owned(rows, name) as lease:
        assert lease
        studies = setting.tasks(sleep)
        studies.update()
        assert not setting.of_task("gqa").trials
        studies.complete()
    assert len(waits) == 1
    assert len(setting.of_task("gqa").trials) == 1


def test_a_failed_trial_fails_on_every_task_with_its_reason(setting: Setting) -> None:
    measure, bad = Several(), BEST["gqa"]

    def broken(candidate: Candidate, samples: int) -> Measurement:
        if candidate == bad:
            raise TrainingError(samples, "loss is nan")
        return measure(candidate, samples)

    setting.run_worker(broken)
    failed = setting.of_task("gqa").get_trials(states=(TrialState.FAIL,))
    assert [candidate_of(t) for t in failed] == [bad, bad]
    assert all("loss is nan" in t.user_attrs[FAILURE] for t in failed)


def test_a_study_of_other_trials_is_refused(setting: Setting) -> None:
    """The main study was deleted and begun again: the numbers mean other trials."""
    setting.main().set_user_attr(IDENTITY, "first")
    setting.tasks()
    setting.main().set_user_attr(IDENTITY, "second")
    with pytest.raises(SearchError, match=r"study 'several \[gqa\]' exists and holds other"):
        setting.tasks()


def test_a_study_of_the_user_is_refused(setting: Setting) -> None:
    study = optuna.create_study(study_name="several [gqa]", storage=setting.storage)
    study.add_trial(optuna.trial.create_trial(value=0.5))
    with pytest.raises(SearchError, match="delete it, or give this study another name"):
        setting.tasks()


class OneByOne(JointPlan):
    """Wants a pair scored on one task, and later, at the same rung, on the other."""

    def jobs(self, history: History) -> Sequence[Job] | Finished:
        """See `Plan`."""
        pair, record = Candidate("v0", "m0"), history.of(Candidate("v0", "m0"))
        for task in ("dear", "cheap"):
            if not record.on_task(task, 1024):
                return [Job(pair, 1024, "test", (task,))] if not record.running else []
        return Finished("all scored")


def test_a_rung_is_reported_on_each_task_when_it_is_scored_there(setting: Setting) -> None:
    """The mean is reported by the trial that scores the last task, and nothing is paid twice."""
    chosen = OneByOne(TREE, RUNGS, FULL, tasks=partly.WEIGHTS)
    measure = TwoTasks()
    main = optuna.create_study(
        study_name="several",
        storage=setting.storage,
        direction="maximize",
        sampler=CkaClusterSampler(chosen, seed=0),
        pruner=LogLinearHalvingPruner(chosen),
    )
    main.optimize(Objective(chosen, measure))
    assert [tasks for *_, tasks in measure.asked] == [("dear",), ("cheap",)]
    first, second, *_ = main.trials
    assert (first.state, second.state) == (TrialState.PRUNED, TrialState.PRUNED)
    assert first.intermediate_values == {}
    mean = measure.whole(Candidate("v0", "m0"), 1024)
    assert second.intermediate_values == {1024: mean.score}
    record = study_history(main).of(Candidate("v0", "m0"))
    assert record.measurements == (mean,)
    assert not record.partial
    TaskStudies(
        main, chosen, partly.WEIGHTS, storage=setting.storage, address=setting.address
    ).complete()
    for task, rungs in (("dear", [{1024}, {1024}]), ("cheap", [set(), {1024}])):
        trials = setting.of_task(task).trials
        assert [set(t.intermediate_values) for t in trials[:2]] == rungs
        own = study_history(setting.of_task(task)).of(Candidate("v0", "m0"))
        assert own.measurements == (mean.by_task[task],)
