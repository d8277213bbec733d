"""What is stored with a failed trial: the reason, an interruption, and its lost seconds."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from mordal_optuna.processes.outages import is_outage
from mordal_optuna.search.attributes import ALIVE, FAILURE, INTERRUPTED, RUNGS
from mordal_optuna.search.heartbeats import assignment_of
from mordal_optuna.search.merging import is_score

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


def wrong_report(trial: FrozenTrial) -> str | None:
    """A sentence about the first reported value that is no score; None if all are scores."""
    for samples, value in sorted(trial.intermediate_values.items()):
        if not is_score(value):
            return (
                f"trial {trial.number} reported {value} at {samples} samples; scores, and errors "
                "where the study minimises, must be between 0 and 1"
            )
    return None


def failure_attribute(error: BaseException | None) -> dict[str, Any]:
    """The attribute, by name, that says why a trial failed or was interrupted.

    Args:
        error: exception that the objective raised; None if it raised none.
    """
    if error is None:
        return {
            FAILURE: "the objective returned no value, or `Study.tell` ended the trial as failed"
        }
    text = f"{type(error).__name__}: {error}"
    interrupted = not isinstance(error, Exception) or is_outage(error)
    return {INTERRUPTED if interrupted else FAILURE: text}


def lost_seconds(trial: FrozenTrial, owner: str) -> float:
    """Duration of a failed trial without the seconds of its scores, by its worker's clock.

    Args:
        trial: the failed trial.
        owner: name of this process; the end of another process's trial is its last heartbeat.
    """
    assignment = assignment_of(trial)
    if assignment is None:
        return 0.0
    is_own = assignment.owner == owner
    until = time.time() if is_own else trial.system_attrs.get(ALIVE, assignment.begun)
    details = trial.user_attrs.get(RUNGS, {}).values()
    scored = sum(rung["eval_seconds"] for rung in details)
    scored += max((rung["train_seconds"] for rung in details), default=0.0)
    return max(0.0, until - assignment.begun - scored)
