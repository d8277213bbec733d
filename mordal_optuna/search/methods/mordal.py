"""The methods `mordal` and `mordal-faithful`: halving over clusters, curves, and a finish.

Symbols:
    b, R, eta  smallest ratio, largest ratio before the finish, factor between rungs
    K          clusters that survive the halving
    p          rungs that a curve is fitted to
    D          samples of a full alignment
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mordal_optuna.errors import SearchError
from mordal_optuna.search.bounds import require
from mordal_optuna.search.finish import Finish
from mordal_optuna.search.halving import ClusterHalving
from mordal_optuna.search.jobs import Job, LazyJobs, first_missing, jobs_of, usable
from mordal_optuna.search.plan import PooledPlan
from mordal_optuna.search.ranking import Ranker

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np

    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.budget import Budget
    from mordal_optuna.search.clusters import ClusterTree
    from mordal_optuna.search.halving import ClusterScores
    from mordal_optuna.search.history import History
    from mordal_optuna.search.methods.options import PlanInputs


def build(inputs: PlanInputs) -> MordalPlan:
    """The plan of `mordal` and `mordal-faithful`."""
    return MordalPlan(
        inputs.tree,
        inputs.rungs,
        inputs.full_samples,
        eta=inputs.options.eta,
        top_clusters=inputs.options.top_clusters,
        fit_points=inputs.options.fit_points,
        finish=inputs.finish,
        budget=inputs.budget,
        ranker=inputs.ranker(),
    )


class MordalPlan(PooledPlan):
    """The paper's search: halving over cluster medoids, curves in the best clusters, a finish.

    1. Inter-cluster: the medoid candidate of every cluster is scored at the lowest rung. The best
       1/eta of the clusters (never fewer than K) are promoted to the next rung, until K clusters
       are left. A cluster whose promotion is already certain is promoted before the rung is
       complete.
    2. Intra-cluster: every candidate of the K clusters is scored on the p highest rungs up to R;
       its curve gives the estimate f(1) at r = 1. No candidate is stopped early in this stage,
       because candidates that improve late would be lost.
    3. Finish: the best candidates race, the best 1/eta being promoted from rung to rung until one
       is left. Without race rungs, the best candidates within noise of the leader are trained
       fully.

    Subclasses may override `search_jobs`, `eligible` and `finish_candidates`.
    """

    def __init__(
        self,
        tree: ClusterTree,
        rungs: Sequence[int],
        full_samples: int,
        *,
        eta: int = 2,
        top_clusters: int = 3,
        fit_points: int = 3,
        finish: Finish | None = None,
        budget: Budget | None = None,
        ranker: Ranker | None = None,
    ) -> None:
        """Create a plan.

        Args:
            tree: the pool and its clusters.
            rungs: ascending sample counts from b * D to R * D, see `build_rungs`.
            full_samples: D, at least the highest rung.
            eta: clusters that compete for one place, at least 2.
            top_clusters: K, at least 1.
            fit_points: p, at least 2.
            finish: how the finalists are compared; by default the leader is trained fully.
            budget: limit of device time; by default none.
            ranker: computes the estimates; by default a `Ranker` with p points.

        Raises:
            SearchError: if an argument is out of its range, or the rungs do not ascend, exceed D,
                or are fewer than p.
        """
        require(eta >= 2, "eta", eta, "at least 2")
        require(top_clusters >= 1, "top_clusters", top_clusters, "at least 1")
        require(fit_points >= 2, "fit_points", fit_points, "at least 2")
        if len(rungs) < fit_points:
            raise SearchError(
                f"there {'is one rung' if len(rungs) == 1 else f'are {len(rungs)} rungs'}, at "
                f"{', '.join(map(str, rungs))} of {full_samples} samples, and a curve is fitted "
                f"to {fit_points} (fit_points); lower first_ratio, raise max_ratio, or align on "
                "more samples"
            )
        super().__init__(
            tree,
            rungs,
            full_samples,
            ranker or Ranker(tree, full_samples, points=fit_points),
            finish=finish or Finish(finalists=1),
            budget=budget,
        )
        self._eta = eta
        self._top_clusters = top_clusters
        self._curve_rungs = self._search_rungs[-fit_points:]
        self._halving = ClusterHalving(tree, self._search_rungs)

    @property
    def top_clusters(self) -> int:
        """K, clusters that survive the halving."""
        return self._top_clusters

    def is_settled(self, history: History, candidate: Candidate) -> bool:
        """Whether the candidate has the p points of its curve, or is fully trained."""
        record = history.of(candidate)
        return record.top == self._rungs[-1] or all(record.at(r) for r in self._curve_rungs)

    def cluster_scores(self, history: History) -> ClusterScores:
        """The representative of every cluster, and the representatives' scores by rung."""
        return self._halving.scores(history, usable)

    def search_jobs(self, history: History) -> Sequence[Job]:
        """Jobs of the halving over clusters, then of the candidates in the K best clusters."""
        scores = self.cluster_scores(history)
        survivors = scores.alive
        for number, rung in enumerate(self._search_rungs):
            if len(survivors) <= self._top_clusters:
                break
            keep = max(self._top_clusters, math.ceil(len(survivors) / self._eta))
            scored, missing = scores.split(survivors, rung)
            if len(missing):
                certain = scores.best(scored, rung, keep - len(missing))
                return self._halving_jobs(history, scores, missing, certain, keep, number)
            survivors = scores.best(scored, rung, keep)
        return self.cluster_jobs(history, scores, survivors[: self._top_clusters])

    def _halving_jobs(
        self,
        history: History,
        scores: ClusterScores,
        missing: np.ndarray,
        certain: np.ndarray,
        keep: int,
        number: int,
    ) -> Sequence[Job]:
        """Jobs of an incomplete rung, and of the clusters whose promotion is already certain.

        Args:
            history: history of the study.
            scores: scores of the clusters in that history.
            missing: numbers of the clusters without a score at the rung.
            certain: numbers of the clusters that are promoted whatever the missing scores are,
                best first.
            keep: number of clusters that are promoted from the rung.
            number: index of the rung.
        """
        waves = [(missing, self._search_rungs[number])]
        intra_jobs: Sequence[Job] = ()
        if keep > self._top_clusters and number + 1 < len(self._search_rungs):
            rung = self._search_rungs[number + 1]
            waves.append((scores.split(certain, rung)[1], rung))
        elif keep == self._top_clusters:
            intra_jobs = self.cluster_jobs(history, scores, certain)

        def all_jobs() -> Iterator[Job]:
            for numbers, rung in waves:
                for candidate in scores.representatives(numbers):
                    yield Job(candidate, rung, "inter-cluster", tied=self._unlimited)
            yield from intra_jobs

        def jobs_of_candidate(candidate: Candidate) -> Iterator[Job]:
            cluster = scores.numbers.get(candidate)
            for numbers, rung in waves:
                if cluster is not None and cluster in numbers:
                    yield Job(candidate, rung, "inter-cluster")
            yield from jobs_of(intra_jobs, candidate)

        return LazyJobs(all_jobs, jobs_of_candidate)

    def cluster_jobs(
        self, history: History, scores: ClusterScores, numbers: np.ndarray
    ) -> list[Job]:
        """The next curve rung of every candidate in some clusters.

        Args:
            history: history of the study.
            scores: scores of the clusters in that history.
            numbers: numbers of the clusters, most wanted first.
        """
        return [
            Job(candidate, rung, "intra-cluster", tied=self._unlimited)
            for number in numbers
            for candidate in scores.clusters[number].candidates
            if usable(record := history.of(candidate))
            and (rung := first_missing(record, self._curve_rungs))
        ]
