"""What Optuna has no public way for: the one adapter of its private interface.

Optuna's own samplers use the same: they share what they have chosen as system attributes of a
running trial (`TPESampler` with `constant_liar`), and only the storage can set those.
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


def trial_handles(study: Study, trials: Sequence[FrozenTrial]) -> list[Trial]:
    """Trials as optuna-dashboard takes them, to put notes beside them.

    The study's own sampler is not told of them: it would take them for trials that begin.

    Args:
        study: that the trials belong to.
        trials: in any state.
    """
    apart = load_study(
        study_name=study.study_name, storage=study._storage, sampler=RandomSampler()
    )
    return [Trial(apart, trial._trial_id) for trial in trials]


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
