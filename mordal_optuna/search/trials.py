"""Access to Optuna for which it has no public interface; no other module uses private names.

Optuna's own samplers use the same calls: `TPESampler` with `constant_liar` shares its choices as
system attributes of a running trial, which only the storage can set.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from optuna.exceptions import StorageInternalError
from optuna.samplers import RandomSampler
from optuna.study import _optimize, load_study
from optuna.trial import Trial

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna.study import Study
    from optuna.trial import FrozenTrial


def set_system_attribute(study: Study, trial: FrozenTrial | Trial, key: str, value: Any) -> None:
    """Store a system attribute of a running trial.

    Args:
        study: study of the trial.
        trial: running trial.
        key: name of the attribute.
        value: JSON value of at most 65,535 characters.
    """
    study._storage.set_trial_system_attr(trial._trial_id, key, value)


def set_trial_attribute(study: Study, number: int, key: str, value: Any) -> None:
    """Store a user attribute of a running trial, given its number.

    Args:
        study: study of the trial.
        number: number of the trial.
        key: name of the attribute.
        value: JSON value.
    """
    storage = study._storage
    trial = storage.get_trial_id_from_study_id_trial_number(study._study_id, number)
    storage.set_trial_user_attr(trial, key, value)


def trial_handles(study: Study, trials: Sequence[FrozenTrial]) -> list[Trial]:
    """Trials in the form that optuna-dashboard needs to store notes with them.

    They belong to a copy of the study with another sampler, because the study's own sampler would
    treat them as trials that begin.

    Args:
        study: study of the trials.
        trials: trials in any state.
    """
    copied = load_study(
        study_name=study.study_name, storage=study._storage, sampler=RandomSampler()
    )
    return [Trial(copied, trial._trial_id) for trial in trials]


def study_number(study: Study) -> int:
    """The number of a study in its storage, by which optuna-dashboard addresses its page.

    Args:
        study: any study.
    """
    return study._study_id


def sibling_study(study: Study, name: str) -> Study | None:
    """Another study in the same storage; None if there is none of this name.

    Args:
        study: study whose storage is searched.
        name: name of the other study.
    """
    try:
        return load_study(study_name=name, storage=study._storage, sampler=RandomSampler())
    except KeyError:
        return None


def raised_by_objective() -> BaseException | None:
    """The exception that the objective raised in the trial that `Study.optimize` is ending now.

    Optuna informs a sampler that a trial failed, but not why, and an interruption must not count
    as a failure of the candidate. None outside `Study.optimize`.
    """
    frame = sys._getframe()
    while frame is not None:
        if frame.f_code is _optimize._run_trial.__code__:
            error = frame.f_locals.get("func_err")
            return error if isinstance(error, BaseException) else None
        frame = frame.f_back  # type: ignore[assignment]
    return None


def storage_errors() -> tuple[type[Exception], ...]:
    """The errors of Optuna's storages while their database, file or server is unreachable."""
    grpc = sys.modules.get("grpc")  # imported if a `GrpcStorageProxy` is in use
    return (StorageInternalError, OSError, *((grpc.RpcError,) if grpc else ()))
