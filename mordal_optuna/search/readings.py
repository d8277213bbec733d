"""Readings of a study's trials, and what one worker's sampler, objective and loop share of them.

A reading takes in all running trials, so with many workers it is the dearest part of a trial. What
one of the three has read serves the next one where nothing that it decides can have changed, or
where a later check finds the change.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

from optuna.study import Study, StudyDirection
from optuna.trial import TrialState

from mordal_optuna.search.history import HistoryReader, candidate_of

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from optuna.trial import FrozenTrial

    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.history import History


class PairClaims(Protocol):
    """Claims on pairs that exclude the other workers of a study, see `study.claims`."""

    def take(self, candidate: Candidate, trial: int) -> bool:
        """Claim a pair for a trial until the trial ends; False if another worker holds it."""
        ...

    def give_back(self, trial: int) -> None:
        """Release what a trial still holds."""
        ...


class SharedHistories(threading.local):
    """Histories that the parts of one worker hand on; those of each thread are its own."""

    def __init__(self) -> None:
        """Nothing is shared yet."""
        self._offered: tuple[History, frozenset[Candidate]] | None = None
        self._claimed: tuple[int, History] | None = None

    def offer(self, history: History, claimed: Collection[Candidate]) -> None:
        """Hand on the history from which this thread's next pair may be chosen.

        Args:
            history: the history, in which no trial of this thread runs.
            claimed: pairs that other workers had claimed later than it was read.
        """
        self._offered = history, frozenset(claimed)

    def take_offered(self) -> tuple[History, frozenset[Candidate]] | None:
        """The history to choose from, once; None if there is none."""
        offered, self._offered = self._offered, None
        return offered

    def keep(self, trial: int, history: History) -> None:
        """Hand on a history that was read while a trial held the claim on its pair.

        Args:
            trial: number of the trial, which the history leaves out.
            history: the history.
        """
        self._claimed = trial, history

    def take_kept(self, trial: int) -> History | None:
        """The history that was read under the trial's claim, once; None if there is none."""
        kept, self._claimed = self._claimed, None
        return kept[1] if kept and kept[0] == trial else None


def study_history(
    study: Study,
    *,
    exclude: int | None = None,
    reader: HistoryReader | None = None,
    dead: Collection[int] = (),
) -> History:
    """The present history of a study.

    Args:
        study: any study over pairs.
        exclude: number of a trial to leave out, such as the one being sampled for.
        reader: reader of the same study, which makes repeated calls faster.
        dead: numbers of running trials whose worker is considered dead.

    Raises:
        SearchError: if a trial chose from another pool than the reader's.
    """
    # Called on the class, because Hyperband passes samplers and pruners a subclass of `Study` that
    # shows the trials of one bracket only and forbids user attributes. Plans need all trials.
    trials = Study.get_trials(study, deepcopy=False)
    minimize = study.direction == StudyDirection.MINIMIZE
    used = reader or HistoryReader()
    return used.read(trials, minimize=minimize, exclude=exclude, dead=dead)


def running_beside(study: Study, trial: FrozenTrial) -> list[FrozenTrial]:
    """The study's other running trials whose pair is chosen."""
    return others_running(Study.get_trials(study, deepcopy=False), trial)


def others_running(trials: Sequence[FrozenTrial], trial: FrozenTrial) -> list[FrozenTrial]:
    """The running trials among others whose pair is chosen."""
    others = [t for t in trials if t.state == TrialState.RUNNING and t.number != trial.number]
    return [t for t in others if candidate_of(t)]
