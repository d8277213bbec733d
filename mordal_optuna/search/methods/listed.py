"""Plans that score a fixed list of candidates on fixed rungs and then begin the finish.

All methods that decide nothing before the finish are such plans: the grid, all candidates at one
ratio, candidates in random order, a cross.

Symbols:
    D    samples of a full alignment
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mordal_optuna.search.jobs import Job, LazyJobs, first_missing, usable
from mordal_optuna.search.plan import PooledPlan

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.budget import Budget
    from mordal_optuna.search.clusters import ClusterTree
    from mordal_optuna.search.finish import Finish
    from mordal_optuna.search.history import History
    from mordal_optuna.search.ranking import Estimate, Ranker


class ListPlan(PooledPlan):
    """A fixed list of candidates, each scored on the same rungs, followed by the finish."""

    def __init__(
        self,
        tree: ClusterTree,
        candidates: Sequence[Candidate],
        rungs: Sequence[int],
        full_samples: int,
        ranker: Ranker,
        *,
        stage: str,
        finish: Finish | None = None,
        untrained_finalists: bool = False,
        budget: Budget | None = None,
    ) -> None:
        """Create a plan.

        Args:
            tree: the pool; its clusters are used by the ranker only.
            candidates: candidates to train, in this order.
            rungs: strictly ascending sample counts at which each candidate is scored.
            full_samples: D.
            ranker: computes the estimates.
            stage: name of the jobs' stage.
            finish: how the finalists are compared; by default no finalist is trained further.
            untrained_finalists: whether candidates outside the list may become finalists.
            budget: limit of device time; by default none.

        Raises:
            SearchError: if the rungs do not ascend or exceed D.
        """
        super().__init__(tree, rungs, full_samples, ranker, finish=finish, budget=budget)
        self._candidates = tuple(candidates)
        self._members = frozenset(candidates)
        self._stage = stage
        self._untrained_finalists = untrained_finalists

    def leader(self, history: History) -> Candidate | None:
        """The best estimate; of the whole pool if untrained candidates may become finalists."""
        scored = any(record.measurements for record in history.candidates.values())
        if self._untrained_finalists and scored:
            return self._ranker.rank_own(history)[0].candidate
        return super().leader(history)

    def search_jobs(self, history: History) -> Sequence[Job]:
        """The next rung of every listed candidate, in the order of the list."""

        def next_job(candidate: Candidate) -> Iterator[Job]:
            record = history.of(candidate)
            if usable(record) and (rung := first_missing(record, self._search_rungs)):
                yield Job(candidate, rung, self._stage, tied=self._unlimited)

        def jobs_of_candidate(candidate: Candidate) -> Iterator[Job]:
            return next_job(candidate) if candidate in self._members else iter(())

        def all_jobs() -> Iterator[Job]:
            # Every worker asks several times a trial: most of a large pool is done, or not begun.
            rungs, known = list(self._search_rungs), history.candidates
            for candidate in self._candidates:
                record = known.get(candidate)
                if record is None:
                    yield Job(candidate, rungs[0], self._stage, tied=self._unlimited)
                elif [m.samples for m in record.measurements[: len(rungs)]] != rungs:
                    yield from next_job(candidate)

        return LazyJobs(all_jobs, jobs_of_candidate)

    def eligible(self, history: History) -> list[Estimate]:
        """Estimates of the candidates that may become finalists, best first."""
        if self._untrained_finalists:
            return list(self._ranker.rank_own(history))
        return super().eligible(history)
