"""Attributes of trials that another worker has asked for."""

from __future__ import annotations

import optuna
import pytest
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from mordal_optuna.search.trials import set_trial_attribute


def test_a_running_trial_is_marked_by_its_number_and_an_ended_one_stays() -> None:
    study = optuna.create_study()
    others = [study.ask().number for _ in range(2)]
    set_trial_attribute(study, others[1], "key", ["value"])
    assert [t.user_attrs for t in study.trials] == [{}, {"key": ["value"]}]
    study.tell(others[1], state=TrialState.FAIL)
    with pytest.raises(UpdateFinishedTrialError):
        set_trial_attribute(study, others[1], "key", "another")
