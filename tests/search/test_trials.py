"""Access to Optuna's private interface."""

from __future__ import annotations

import optuna
import pytest
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from mordal_optuna.search.trials import (
    raised_by_objective,
    set_trial_attribute,
)


def test_a_running_trial_is_marked_by_its_number_and_an_ended_one_stays() -> None:
    study = optuna.create_study()
    others = [study.ask().number for _ in range(2)]
    set_trial_attribute(study, others[1], "key", ["value"])
    assert [t.user_attrs for t in study.trials] == [{}, {"key": ["value"]}]
    study.tell(others[1], state=TrialState.FAIL)
    with pytest.raises(UpdateFinishedTrialError):
        set_trial_attribute(study, others[1], "key", "another")


def test_a_trial_attribute_is_set_by_the_trials_number() -> None:
    study = optuna.create_study()
    study.ask()
    set_trial_attribute(study, 0, "why", "because")
    assert study.trials[0].user_attrs == {"why": "because"}


def test_the_exception_of_an_objective_is_available_when_its_trial_ends() -> None:
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
