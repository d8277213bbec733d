"""Plans that choose one job at a time and begin it only if it fits into the rest of the budget.

A plan of the package stops with the job that crosses the budget. The rivals here take steps of up
to half a full run, which would cross it by far more than ours do; so they begin a job only if its
expected cost fits.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

import numpy as np

from mordal_optuna.search.jobs import Finished, Job
from mordal_optuna.search.plan import PooledPlan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.budget import Budget
    from mordal_optuna.search.clusters import ClusterTree
    from mordal_optuna.search.history import CandidateHistory, History
    from mordal_optuna.search.ranking import Ranker


class Prices:
    """Expected costs, learned from what was paid.

    A pair trains at its own rate if it was trained, else at the mean rate of the pairs with its
    LLM, else at the mean rate of all pairs. Before anything was paid, everything seems free.
    """

    def __init__(self, history: History) -> None:
        """Read the rates from a history."""
        records = history.candidates
        self._own = {c: r.train_seconds / r.top for c, r in records.items() if r.train_seconds}
        self._mean = float(np.mean(list(self._own.values()))) if self._own else 0.0
        scores = [m.eval_seconds for r in records.values() for m in r.measurements]
        self._score = float(np.mean(scores)) if scores else 0.0

    def seconds(self, candidate: Candidate, record: CandidateHistory, samples: int) -> float:
        """Device-seconds to train a candidate from its highest rung to `samples` and score it."""
        return self._rate(candidate) * max(samples - record.top, 0) + self._score

    def _rate(self, candidate: Candidate) -> float:
        if candidate in self._own:
            return self._own[candidate]
        alike = [rate for other, rate in self._own.items() if other.llm == candidate.llm]
        return float(np.mean(alike)) if alike else self._mean


class BudgetedPlan(PooledPlan):
    """A plan that chooses one job at a time, which must fit into the rest of the budget.

    Subclasses implement `choose`. Jobs that run are listed first, so that any number of workers
    can follow the plan; what it chooses next depends on the scores known by then.
    """

    def __init__(
        self, tree: ClusterTree, rungs: Sequence[int], ranker: Ranker, *, budget: Budget | None
    ) -> None:
        """Create a plan.

        Args:
            tree: the pool.
            rungs: strictly ascending sample counts; the last is a full alignment.
            ranker: computes the estimates.
            budget: limit of device time; None for no limit.

        Raises:
            SearchError: if the rungs do not ascend.
        """
        super().__init__(tree, rungs, rungs[-1], ranker, budget=budget)

    @property
    def candidates(self) -> Sequence[Candidate]:
        """All pairs of the pool."""
        return self._tree.candidates

    def jobs(self, history: History) -> Sequence[Job] | Finished:
        """The running jobs and the next one; `Finished` if no job is wanted that can be paid."""
        jobs = self.search_jobs(history)
        if jobs:
            return jobs
        nothing = not any(record.measurements for record in history.candidates.values())
        reason = "no further job is wanted that fits into the budget"
        return Finished("no candidate could be trained" if nothing else reason, failed=nothing)

    def search_jobs(self, history: History) -> Sequence[Job]:
        """The running jobs and the next one."""
        running = [
            Job(c, record.granted, "running")
            for c, record in history.candidates.items()
            if is_busy(record)
        ]
        chosen = self.choose(history)
        return [*running, chosen] if chosen else running

    @abstractmethod
    def choose(self, history: History) -> Job | None:
        """The next job, of a candidate that is not busy; None if no wanted job can be paid."""

    def left(self, history: History) -> float:
        """Device-seconds left, less what the running jobs are expected to take."""
        hours = self._budget.device_hours
        if hours is None:
            return float("inf")
        prices = Prices(history)
        reserved = sum(
            prices.seconds(c, record, record.granted)
            for c, record in history.candidates.items()
            if is_busy(record)
        )
        return hours * 3600 - self._budget.spent_seconds - history.seconds - reserved

    def price(self, history: History, candidate: Candidate, samples: int) -> float:
        """Expected device-seconds of a job."""
        return Prices(history).seconds(candidate, history.of(candidate), samples)


def is_busy(record: CandidateHistory) -> bool:
    """Whether a trial of a candidate still trains toward the rung it was asked for."""
    return record.running and record.granted > record.top
