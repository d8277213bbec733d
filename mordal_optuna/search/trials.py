"""Trials of other workers: the one place that knows Optuna's private API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna import Study


def set_trial_attribute(study: Study, number: int, key: str, value: Any) -> None:
    """Set a user attribute of a trial that is known by its number.

    Optuna offers this for a trial's own worker only. Its samplers reach the storage in the same
    way.

    Args:
        study: the trial's study.
        number: of the trial, which must be running.
        key: of the attribute.
        value: anything that JSON can hold.

    Raises:
        UpdateFinishedTrialError: if the trial has ended.
    """
    storage = study._storage
    trial = storage.get_trial_id_from_study_id_trial_number(study._study_id, number)
    storage.set_trial_user_attr(trial, key, value)
