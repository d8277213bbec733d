"""Plans of two parts: experiments chosen by their design, then the best predicted pairs fully."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.rivals_search.budgeted import BudgetedPlan, Prices, is_busy
from mordal_optuna.search.jobs import Job, usable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.budget import Budget
    from mordal_optuna.search.clusters import ClusterTree
    from mordal_optuna.search.history import History
    from mordal_optuna.search.ranking import Ranker


class DesignedPlan(BudgetedPlan):
    """Experiments by design as far as the budget allows, then the best predicted pairs fully.

    With a finish the design leaves enough budget to train the best predicted pair fully, and more
    if `reserved` asks for it. Then the best predicted pairs are trained fully one after another,
    as long as that can be paid; the answer is the best of them. Without a finish the answer is the
    best predicted pair.

    Subclasses implement `design`, and give a ranker that predicts the whole pool.
    """

    def __init__(
        self,
        tree: ClusterTree,
        rungs: Sequence[int],
        ranker: Ranker,
        *,
        finish: bool,
        reserved: float = 0.0,
        seed: int = 0,
        budget: Budget | None = None,
    ) -> None:
        """Create a plan.

        Args:
            tree: the pool.
            rungs: strictly ascending sample counts; the last is a full alignment.
            ranker: predicts the whole pool.
            finish: whether the best predicted pairs are trained fully.
            reserved: share of the budget that the design leaves for them, 0 to 1.
            seed: random seed of the order in which pairs of equal worth are taken.
            budget: limit of device time; None for no limit.

        Raises:
            SearchError: if the rungs do not ascend.
        """
        super().__init__(tree, rungs, ranker, budget=budget)
        self._finishes = finish
        self._reserved = reserved
        self._order = np.random.default_rng(seed).permutation(len(tree.candidates)).tolist()

    def choose(self, history: History) -> Job | None:
        """The next experiment, or the best predicted pair at D."""
        full = self.rungs[-1]
        left = self.left(history)
        best = self._best(history) if self._finishes else None
        last = self.price(history, best, full) if best else 0.0
        if not any(record.at(full) for record in history.candidates.values()):
            share = self._reserved * (self._budget.device_hours or 0.0) * 3600
            job = self.design(history, left - max(last, share))
            if job:
                return job
        return Job(best, full, "finish") if best and last <= left else None

    @abstractmethod
    def design(self, history: History, seconds: float) -> Job | None:
        """The next experiment of at most `seconds`; None if there is none."""

    def winner(self, history: History) -> Candidate | None:
        """The best pair trained fully; without one the best predicted; None before any score."""
        if any(record.at(self.rungs[-1]) for record in history.candidates.values()):
            return super().winner(history)
        return self.ranking(history)[0].candidate if is_scored(history) else None

    def _best(self, history: History) -> Candidate | None:
        """The best predicted pair that is not trained fully and can be trained."""
        if not is_scored(history):
            return None
        return next(
            (
                e.candidate
                for e in self.ranking(history)
                if self.is_free(history, e.candidate, self.rungs[-1])
            ),
            None,
        )

    def is_free(self, history: History, candidate: Candidate, samples: int) -> bool:
        """Whether a candidate may be trained to a rung that it has not reached."""
        record = history.of(candidate)
        return record.top < samples and usable(record) and not is_busy(record)

    def best_value(
        self, history: History, jobs: Sequence[tuple[Job, float]], seconds: float
    ) -> Job | None:
        """The job with the largest gain per second, of those that fit into `seconds`.

        Args:
            history: history of the study.
            jobs: jobs with their gains; of equal ones the earliest is taken.
            seconds: device-seconds that may be spent.
        """
        prices = Prices(history)
        best, worth = None, 0.0
        for job, gain in jobs:
            price = prices.seconds(job.candidate, history.of(job.candidate), job.samples)
            # Before anything was paid all jobs seem free, and the gain alone decides.
            value = gain / price if price else gain
            if price <= seconds and value > worth:
                best, worth = job, value
        return best


def is_scored(history: History) -> bool:
    """Whether any candidate has a score."""
    return any(record.measurements for record in history.candidates.values())
