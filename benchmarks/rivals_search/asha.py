"""ASHA: asynchronous successive halving (Li et al. 2020, arXiv 1810.05934), by promotion.

Every pair of the pool is a configuration, taken in random order. A free worker promotes the best
pair that is among the top 1/eta of its rung and was not promoted yet, from the highest rung
downwards; if there is none, it begins another pair at the lowest rung. Optuna's
`SuccessiveHalvingPruner` decides once, when a trial reaches a rung; here a pair that was passed
over is promoted as soon as its rung has grown enough.

Rungs differ by factors of 2 with every eta, since those are the rungs of the grid files: with
eta = 3, one pair in three is promoted to twice the samples. The answer is the best score at any
rung, as in the paper; the whole pool is ranked by the package's model of all scores.

Symbols:
    eta   pairs that compete for one promotion
    k     number of a rung, ascending
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchmarks.rivals_search.budgeted import BudgetedPlan, is_busy
from mordal_optuna.search.bounds import require
from mordal_optuna.search.jobs import Job, usable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.budget import Budget
    from mordal_optuna.search.clusters import ClusterTree
    from mordal_optuna.search.history import History
    from mordal_optuna.search.ranking import Ranker


class AshaPlan(BudgetedPlan):
    """Asynchronous successive halving over all pairs of a pool."""

    def __init__(
        self,
        tree: ClusterTree,
        rungs: Sequence[int],
        ranker: Ranker,
        *,
        eta: int = 2,
        seed: int = 0,
        budget: Budget | None = None,
    ) -> None:
        """Create a plan.

        Args:
            tree: the pool.
            rungs: strictly ascending sample counts; the last is a full alignment.
            ranker: ranks the pool.
            eta: pairs that compete for one promotion, at least 2.
            seed: random seed of the order of the pairs.
            budget: limit of device time; None for no limit.

        Raises:
            SearchError: if `eta` is below 2 or the rungs do not ascend.
        """
        require(eta >= 2, "eta", eta, "at least 2")
        super().__init__(tree, rungs, ranker, budget=budget)
        self._eta = eta
        order = np.random.default_rng(seed).permutation(len(tree.candidates))
        self._order = tuple(tree.candidates[n] for n in order)
        self._place = {candidate: n for n, candidate in enumerate(self._order)}

    def choose(self, history: History) -> Job | None:
        """The highest promotion that can be paid, else the next new pair."""
        left = self.left(history)
        return next((j for j in self._wanted(history) if self._cost(history, j) <= left), None)

    def winner(self, history: History) -> Candidate | None:
        """The pair with the best score at any rung; None before any score."""
        best = {
            c: max(m.score for m in record.measurements)
            for c, record in history.candidates.items()
            if record.measurements
        }
        return max(best, key=lambda c: (best[c], history.of(c).top), default=None)

    def _cost(self, history: History, job: Job) -> float:
        return self.price(history, job.candidate, job.samples)

    def _wanted(self, history: History) -> Iterator[Job]:
        for rung, above in reversed(list(zip(self.rungs, self.rungs[1:], strict=False))):
            for candidate in self._top(history, rung):
                record = history.of(candidate)
                if not record.at(above) and not is_busy(record) and usable(record):
                    yield Job(candidate, above, "promotion")
        for candidate in self._order:
            record = history.of(candidate)
            if not record.measurements and not is_busy(record) and usable(record):
                yield Job(candidate, self.rungs[0], "new")

    def _top(self, history: History, rung: int) -> list[Candidate]:
        """The best 1/eta of the pairs scored at a rung, best first; ties in the random order."""
        scores = {c: m.score for c, r in history.candidates.items() if (m := r.at(rung))}
        ranked = sorted(scores, key=lambda c: (-scores[c], self._place[c]))
        return ranked[: len(ranked) // self._eta]
