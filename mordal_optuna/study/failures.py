"""Failures of candidates: whether they have one reason in common, and how they are cleared."""

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
from mordal_optuna.search.history import candidate_of
from mordal_optuna.search.plan import ATTEMPTS
from mordal_optuna.search.sampler import study_history

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from optuna import Study
    from optuna.trial import FrozenTrial

    from mordal_optuna.pool import Candidate

# Candidates that fail in a row for a like reason: from so many on the reason is not theirs.
ALIKE = 3
# Paths, and words that hold a digit: numbers, digests, names of devices and of scratch files.
_CHANGING = re.compile(r"\S*/\S*|\b\w*\d\w*\b")
# Of a candidate that a pruner has stopped twice where it stood.
_OVERRULED = "stopped by the pruner before any new score"


@dataclass(frozen=True)
class LikeFailures:
    """Candidates that failed one after the other for a like reason.

    Attributes:
        candidates: the newest failure's first.
        reason: of the newest failure.
    """

    candidates: tuple[Candidate, ...]
    reason: str


def like_failures(trials: Sequence[FrozenTrial]) -> LikeFailures | None:
    """The newest failures, if something outside the candidates seems to be their reason.

    They are of at least three candidates with no score in between, for a like reason. Where all
    of them have an encoder or an LLM in common, that part may be at fault: there is none then.

    Args:
        trials: all trials of the study, by number.
    """
    found: list[tuple[Candidate, str]] = []
    for candidate, reason in _newest_in_a_row(trials):
        if found and likeness(reason, candidate) != likeness(found[0][1], found[0][0]):
            break
        found.append((candidate, reason))
    candidates = tuple(dict.fromkeys(candidate for candidate, _ in found))
    apart = (
        len({c.vision_encoder for c in candidates}) > 1 and len({c.llm for c in candidates}) > 1
    )
    return LikeFailures(candidates, found[0][1]) if len(candidates) >= ALIKE and apart else None


def newest_failure(trials: Sequence[FrozenTrial]) -> tuple[Candidate, str] | None:
    """The candidate that failed last, and why."""
    failures = (failure for trial in reversed(trials) if (failure := _failure(trial)))
    return next(failures, None)


def likeness(reason: str, candidate: Candidate) -> str:
    """A reason without what differs between candidates: their names, paths, numbers.

    Every class of error begins its sentences in its own way, so like reasons are of one class.
    """
    for name in (candidate.vision_encoder, candidate.llm):
        reason = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "*", reason)
    return _CHANGING.sub("*", reason)


def clear_failures(study: Study, chosen: Sequence[Candidate] = ()) -> dict[Candidate, str]:
    """Let failed candidates be tried again, and the study go on if it had ended.

    Args:
        study: any study.
        chosen: the candidates to try again; all that failed by default.

    Returns:
        The candidates that were cleared, with the reason of their last failure.

    Raises:
        SearchError: if there is no failure to clear, or a chosen candidate has none.
    """
    known = study_history(study).candidates
    failed = {
        candidate: found.failure or _OVERRULED
        for candidate, found in known.items()
        if found.failures or found.overruled >= ATTEMPTS
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
    """Failures from the newest on, back to the last score or the last time some were cleared."""
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
