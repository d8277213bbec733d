"""Marks and signs of life."""

from __future__ import annotations

import time

import optuna
import pytest

from mordal_optuna.pool import Candidate
from mordal_optuna.search import marks
from mordal_optuna.search.attributes import ALIVE, JOB
from mordal_optuna.search.heartbeats import (
    Assignment,
    HeartbeatMonitor,
    HeartbeatSender,
    assignment_of,
)
from mordal_optuna.search.trials import (
    raised_by_objective,
    set_system_attribute,
    set_trial_attribute,
)

PAIR = Candidate("clip", "llama")


def asked(study: optuna.Study) -> optuna.trial.FrozenTrial:
    trial = study.ask()
    return study.trials[trial.number]


def test_a_mark_reads_back_as_it_was_stored_until_it_is_given_back() -> None:
    study = optuna.create_study()
    trial, mark = asked(study), Assignment(PAIR, 512, "m/1/a", 5.0)
    assert assignment_of(trial) is None
    set_system_attribute(study, trial, JOB, mark.stored())
    assert assignment_of(study.trials[0]) == mark
    set_system_attribute(study, trial, JOB, None)
    assert assignment_of(study.trials[0]) is None


def test_a_trial_attribute_is_set_by_the_trials_number() -> None:
    study = optuna.create_study()
    asked(study)
    set_trial_attribute(study, 0, "why", "because")
    assert study.trials[0].user_attrs == {"why": "because"}


def test_what_an_objective_has_raised_is_known_where_its_trial_ends() -> None:
    """By the one look into Optuna's loop; an interruption is told from a failure."""
    found: list[BaseException | None] = []

    class Watching(optuna.samplers.RandomSampler):
        def after_trial(self, *_: object) -> None:
            found.append(raised_by_objective())

    def objective(trial: optuna.Trial) -> float:
        raise errors[trial.number]

    errors = [ValueError("no such layer"), KeyboardInterrupt()]
    study = optuna.create_study(sampler=Watching())
    study.optimize(objective, n_trials=1, catch=(ValueError,))
    with pytest.raises(KeyboardInterrupt):
        study.optimize(objective, n_trials=1)
    study.optimize(lambda _: 1.0, n_trials=1)
    study.tell(study.ask(), state=optuna.trial.TrialState.FAIL)
    assert found == [*errors, None, None]


def test_a_pulse_speaks_for_running_trials_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marks, "PULSE_SECONDS", 0.05)
    study, pulse = optuna.create_study(), HeartbeatSender()
    kept, ended = asked(study), asked(study)
    pulse.begin(study, kept)
    pulse.begin(study, ended)
    assert pulse.is_of_this_thread(study, kept)
    pulse.end(study, ended)
    assert not pulse.is_of_this_thread(study, ended)
    time.sleep(0.5)
    assert ALIVE in study.trials[0].system_attrs
    assert ALIVE not in study.trials[1].system_attrs
    pulse.end(study, kept)


def test_who_gives_no_sign_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marks, "SILENCE_SECONDS", 0.1)
    study, watch = optuna.create_study(), HeartbeatMonitor()
    one, two = asked(study), asked(study)
    watch.look([one, two])
    assert watch.silent == frozenset()
    time.sleep(0.15)
    set_system_attribute(study, two, ALIVE, 1.0)
    watch.look(study.trials)
    assert watch.silent == {one.number}
