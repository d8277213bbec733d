"""What Optuna has no public way for: the one adapter of its private interface.

Optuna's own samplers use the same: they share what they have chosen as system attributes of a
running trial (`TPESampler` with `constant_liar`), and only the storage can set those.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from optuna.exceptions import StorageInternalError
from optuna.study import _optimize
from optuna.trial import Trial

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial


def set_system_attribute(study: Study, trial: FrozenTrial | Trial, key: str, value: Any) -> None:
    """Store a system attribute of a running trial.

    Args:
        study: that the trial belongs to.
        trial: running.
        key: name of the attribute.
        value: plain, as JSON has it, of at most 65,535 characters.
    """
    study._storage.set_trial_system_attr(trial._trial_id, key, value)


def set_trial_attribute(study: Study, number: int, key: str, value: Any) -> None:
    """Store a user attribute of a running trial that is known by its number.

    Args:
        study: that the trial belongs to.
        number: of the trial.
        key: name of the attribute.
        value: plain, as JSON has it.
    """
    storage = study._storage
    trial = storage.get_trial_id_from_study_id_trial_number(study._study_id, number)
    storage.set_trial_user_attr(trial, key, value)


def trial_handle(study: Study, trial: FrozenTrial) -> Trial:
    """A trial as optuna-dashboard takes it, to put a note beside it; nothing is sampled.

    Args:
        study: that the trial belongs to.
        trial: in any state.
    """
    return Trial(study, trial._trial_id)


def raised_by_objective() -> BaseException | None:
    """What the objective raised in the trial that `Study.optimize` is ending just now.

    A sampler is told that a trial has failed, but not why; an interruption is not the
    candidate's fault. None outside `Study.optimize`.
    """
    frame = sys._getframe()
    while frame is not None:
        if frame.f_code is _optimize._run_trial.__code__:
            error = frame.f_locals.get("func_err")
            return error if isinstance(error, BaseException) else None
        frame = frame.f_back  # type: ignore[assignment]
    return None


def storage_errors() -> tuple[type[Exception], ...]:
    """What Optuna's storages raise while their database, file or server cannot be reached."""
    grpc = sys.modules.get("grpc")  # there if a `GrpcStorageProxy` is
    return (StorageInternalError, OSError, *((grpc.RpcError,) if grpc else ()))
