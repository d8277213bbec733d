"""Opening a study that has begun, only to read it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import optuna

from mordal_optuna.errors import SearchError
from mordal_optuna.search.attributes import FULL_SAMPLES
from mordal_optuna.study.claims import study_storage
from mordal_optuna.study.opening import opening
from mordal_optuna.study.task_results import mean_of

if TYPE_CHECKING:
    from optuna import Study

    from mordal_optuna.config import StudySettings


def load_begun(settings: StudySettings) -> Study:
    """Open a study that has begun.

    Args:
        settings: the study file's settings.

    Raises:
        ConfigError: if the database cannot be used; the message hides the password.
        SearchError: if the study does not exist, or has not begun.
    """
    with opening(settings.storage_url(), key=settings.storage_key):
        storage = study_storage(settings.storage_url())
        names = optuna.get_all_study_names(storage)
        name = settings.study if settings.study in names else None
        study = optuna.load_study(study_name=name, storage=storage) if name else None
    if study is None or FULL_SAMPLES not in study.user_attrs:
        raise SearchError(f"study {settings.study!r} has no score yet; run it first")
    return study


def displayed(settings: StudySettings) -> dict[str, Any]:
    """Method and tasks of a study, as `read_result` and the dashboard take them for display.

    Args:
        settings: the study's settings.
    """
    weights = settings.task_weights
    task = mean_of(weights) if weights else settings.targets[0].name
    return {"method": settings.search.method, "task": task, "tasks": weights}
