"""Failures of candidates: detect a common cause outside the candidates, and clear failures."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from optuna.trial import TrialState, create_trial

from mordal_optuna.errors import SearchError
from mordal_optuna.search.attributes import (
    FAILURE,
    FURTHER_SCORES,
    INTERRUPTED,
    RETRY,
    RUNGS,
    STOPPED_BECAUSE,
)
from mordal_optuna.search.history import ATTEMPTS, candidate_of
from mordal_optuna.search.sampler import study_history

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from optuna import Study
    from optuna.trial import FrozenTrial

    from mordal_optuna.pool import Candidate

# So many candidates that fail in a row for a similar reason point to a cause outside of them.
MIN_SIMILAR = 3
# Paths, and words that contain a digit: numbers, digests, names of devices and scratch files.
_VARIABLE = re.compile(r"\S*/\S*|\b\w*\d\w*\b")
# Reason of a candidate that a pruner stopped repeatedly without a new score.
_OVERRULED = "stopped by the pruner before any new score"


@dataclass(frozen=True)
class CommonFailure:
    """Candidates that failed one after the other for a similar reason.

    Attributes:
        candidates: failed candidates, newest failure first.
        reason: reason of the newest failure.
    """

    candidates: tuple[Candidate, ...]
    reason: str


def common_failure(trials: Sequence[FrozenTrial]) -> CommonFailure | None:
    """The newest failures, if their cause seems to lie outside the candidates.

    At least three candidates must have failed for a similar reason, without a score in between. If
    all of them share an encoder or an LLM, that model may be at fault, and None is returned.

    Args:
        trials: all trials of the study, by number.
    """
    row: list[tuple[Candidate, str]] = []
    for candidate, reason in _newest_in_a_row(trials):
        if row and normalized(reason, candidate) != normalized(row[0][1], row[0][0]):
            break
        row.append((candidate, reason))
    candidates = tuple(dict.fromkeys(candidate for candidate, _ in row))
    share_no_model = (
        len({c.vision_encoder for c in candidates}) > 1 and len({c.llm for c in candidates}) > 1
    )
    if len(candidates) < MIN_SIMILAR or not share_no_model:
        return None
    return CommonFailure(candidates, row[0][1])


def newest_failure(trials: Sequence[FrozenTrial]) -> tuple[Candidate, str] | None:
    """The candidate of the newest failure and its reason; None without a failure.

    Args:
        trials: all trials of the study, by number.
    """
    failures = (failure for trial in reversed(trials) if (failure := _failure(trial)))
    return next(failures, None)


def normalized(reason: str, candidate: Candidate) -> str:
    """A reason with model names, paths and numbers replaced by `*`, for comparison.

    The sentences of each error class begin differently, so equal reasons are of the same class.

    Args:
        reason: reason of a failure.
        candidate: pair that failed, whose names are replaced.
    """
    for name in (candidate.vision_encoder, candidate.llm):
        reason = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "*", reason)
    return _VARIABLE.sub("*", reason)


def clear_failures(study: Study, chosen: Sequence[Candidate] = ()) -> dict[Candidate, str]:
    """Allow failed candidates to be tried again, and reopen the study if it had ended.

    Args:
        study: study to change.
        chosen: candidates to try again; all that failed by default.

    Returns:
        The cleared candidates, each with the reason of its last failure.

    Raises:
        SearchError: if there is no failure to clear, or a chosen candidate has none.
    """
    histories = study_history(study).candidates
    failed = {
        candidate: history.failure or _OVERRULED
        for candidate, history in histories.items()
        if history.failures or history.deaths or history.overruled >= ATTEMPTS
    }
    if not failed:
        raise SearchError(f"study {study.study_name!r} has no failed candidate; nothing to clear")
    for candidate in chosen:
        if candidate not in failed:
            names = ", ".join(repr(str(c)) for c in failed)
            raise SearchError(f"candidate {str(candidate)!r} has not failed; those are {names}")
    for key in (STOPPED_BECAUSE, FURTHER_SCORES):
        if study.user_attrs.get(key) is not None:
            study.set_user_attr(key, None)
    pairs = [[c.vision_encoder, c.llm] for c in chosen]
    study.add_trial(
        create_trial(state=TrialState.PRUNED, user_attrs={RETRY: pairs if chosen else "all"})
    )
    return {c: reason for c, reason in failed.items() if not chosen or c in chosen}


def _newest_in_a_row(trials: Sequence[FrozenTrial]) -> Iterator[tuple[Candidate, str]]:
    """Failures, newest first, back to the last score or the last clearing of failures."""
    for trial in reversed(trials):
        if RETRY in trial.user_attrs:
            return
        failure = _failure(trial)
        if failure:
            yield failure
        if trial.user_attrs.get(RUNGS):
            return


def _failure(trial: FrozenTrial) -> tuple[Candidate, str] | None:
    candidate, reason = candidate_of(trial), trial.user_attrs.get(FAILURE)
    if candidate is None or reason is None or INTERRUPTED in trial.user_attrs:
        return None
    return candidate, reason
