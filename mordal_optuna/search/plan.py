"""Plans: what to train next and when to stop, as pure functions of the history.

A plan lists the jobs it wants done now. Sampler and pruner ask the same question: the sampler
takes the first job nobody works on, the pruner lets a candidate go on while a job of its own is
listed. So any number of workers, restarts and stock partners see the same search.

Symbols:
    b, R, eta  smallest ratio, largest ratio before the finish, factor between rungs
    K          clusters that survive the halving
    p          rungs a curve is fitted to
    D          samples of a full alignment
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from mordal_optuna.errors import SearchError
from mordal_optuna.search.ranking import Ranker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.clusters import CandidateCluster, ClusterTree
    from mordal_optuna.search.history import History
    from mordal_optuna.search.ranking import Estimate

# A failure may be passing (a full disk, a lost device); a second one is taken as the candidate's.
ATTEMPTS = 2


@dataclass(frozen=True)
class Job:
    """Train a candidate up to a number of samples and score it there."""

    candidate: Candidate
    samples: int
    stage: str


@dataclass(frozen=True)
class Wait:
    """All that can be done now is being done by others."""


@dataclass(frozen=True)
class Finished:
    """Nothing is left to do."""

    reason: str


class Plan(Protocol):
    """A search method.

    Attributes:
        rungs: all rungs, ascending, the last being the full alignment set.
    """

    @property
    def rungs(self) -> tuple[int, ...]:
        """All rungs, ascending; the last is D."""
        ...

    @property
    def vision_encoders(self) -> tuple[str, ...]:
        """Names of the pool's encoders, in its order."""
        ...

    @property
    def llms(self) -> tuple[str, ...]:
        """Names of the pool's LLMs, in its order."""
        ...

    def jobs(self, history: History) -> Sequence[Job] | Finished:
        """What is wanted now, best first, running or not; or why nothing is."""
        ...

    @property
    def ranker(self) -> Ranker:
        """Turns a history into curves, a ranking and a tie set."""
        ...

    def ranking(self, history: History) -> tuple[Estimate, ...]:
        """What is believed of every candidate of the pool at r = 1, best first."""
        ...

    def is_settled(self, history: History, candidate: Candidate) -> bool:
        """Whether a candidate is estimated as finely as the plan asks for."""
        ...


def next_job(plan: Plan, history: History) -> Job | Wait | Finished:
    """The first wanted job that nobody works on."""
    jobs = plan.jobs(history)
    if isinstance(jobs, Finished):
        return jobs
    return next((job for job in jobs if not history.of(job.candidate).running), Wait())


def verdict(plan: Plan, history: History, candidate: Candidate, samples: int) -> bool:
    """Whether a candidate scored at `samples` should go on: a job of its own lies further up.

    At the last rung it always may: there is nothing left to save, and its trial is complete.
    """
    if samples >= plan.rungs[-1]:
        return True
    jobs = plan.jobs(history)
    if isinstance(jobs, Finished):
        return False
    return any(job.candidate == candidate and job.samples > samples for job in jobs)


def next_rung(plan: Plan, history: History, candidate: Candidate, top: int) -> int | None:
    """Where to score a candidate next, above `top` samples; None beyond the last rung.

    The plan's own job where it has one; the next rung where some other sampler or pruner chose
    to go on.
    """
    jobs = plan.jobs(history)
    wanted = [] if isinstance(jobs, Finished) else [j for j in jobs if j.candidate == candidate]
    above = [job.samples for job in wanted if job.samples > top]
    return min(above, default=next((rung for rung in plan.rungs if rung > top), None))


class _Pooled:
    """What all plans over a fixed pool share."""

    def __init__(self, tree: ClusterTree, rungs: Sequence[int], ranker: Ranker) -> None:
        if not rungs or list(rungs) != sorted(set(rungs)) or rungs[0] < 1:
            raise SearchError(
                f"rungs {list(rungs)} were given; they must be strictly ascending sample counts"
            )
        self._tree = tree
        self._rungs = tuple(rungs)
        self._ranker = ranker

    @property
    def rungs(self) -> tuple[int, ...]:
        return self._rungs

    @property
    def vision_encoders(self) -> tuple[str, ...]:
        return self._tree.vision_encoders

    @property
    def llms(self) -> tuple[str, ...]:
        return self._tree.llms

    @property
    def ranker(self) -> Ranker:
        return self._ranker

    def ranking(self, history: History) -> tuple[Estimate, ...]:
        return self._ranker.rank(history)

    def _usable(self, history: History, candidate: Candidate) -> bool:
        return history.of(candidate).failures < ATTEMPTS


class GridPlan(_Pooled):
    """Every candidate on every rung up to the full alignment set: the ground truth."""

    def __init__(
        self, tree: ClusterTree, rungs: Sequence[int], *, confidence: float = 0.95
    ) -> None:
        """Plan a grid.

        Args:
            tree: the pool; its clusters are not used to decide anything.
            rungs: ascending sample counts, the last being the full alignment set.
            confidence: of the intervals in the ranking, 0..1.

        Raises:
            SearchError: if the rungs do not ascend.
        """
        super().__init__(tree, rungs, Ranker(tree, rungs[-1:], confidence=confidence, points=2))

    def jobs(self, history: History) -> Sequence[Job] | Finished:
        """The next rung of every candidate that is not fully trained."""
        wanted = [
            Job(candidate, rung, "grid")
            for candidate in self._tree.candidates
            if self._usable(history, candidate)
            and (rung := _first_missing(history, candidate, self._rungs))
        ]
        return wanted or Finished("every candidate is trained on the full alignment set")

    def is_settled(self, history: History, candidate: Candidate) -> bool:
        """Whether the candidate is fully trained."""
        return history.of(candidate).at(self._rungs[-1]) is not None


class MordalPlan(_Pooled):
    """The paper's search: halving over cluster medoids, curves inside the best, a finish.

    1. Inter-cluster: the medoid candidate of every cluster is scored at the lowest rung; the best
       1/eta (never fewer than K) go on to the next rung, until K clusters are left.
    2. Intra-cluster: every candidate of those clusters is scored on the p highest rungs up to R;
       its curve gives f(1). Nobody is stopped early here, which would cut off late bloomers.
    3. Finish: while fewer than `finalists` candidates are fully trained and the leader cannot be
       told from a candidate known by its curve only, the best such candidate is trained fully.
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
        finalists: int = 1,
        confidence: float = 0.95,
        device_hours: float | None = None,
        spent_seconds: float = 0.0,
    ) -> None:
        """Plan a search.

        Args:
            tree: the pool and its clusters.
            rungs: ascending sample counts from b * D to R * D, see `build_rungs`.
            full_samples: D, at least the highest rung.
            eta: clusters that compete for one place, at least 2.
            top_clusters: K, at least 1.
            fit_points: p, at least 2.
            finalists: candidates trained on all of D at the end; 0 trusts the curves.
            confidence: of all intervals, 0..1.
            device_hours: stop once this much is spent; None sets no limit.
            spent_seconds: device-seconds spent before the first trial (features, CKA, warm-up).

        Raises:
            SearchError: if the rungs do not ascend, exceed D, or are fewer than p.
        """
        if len(rungs) < fit_points or (rungs and rungs[-1] > full_samples):
            raise SearchError(
                f"rungs {list(rungs)} were given; at least {fit_points} (fit_points) up to "
                f"{full_samples} (the full alignment set) are needed"
            )
        every = tuple(rungs) if rungs[-1] == full_samples else (*rungs, full_samples)
        ranker = Ranker(tree, every, confidence=confidence, points=fit_points)
        super().__init__(tree, every, ranker)
        self._search_rungs = tuple(rungs)
        self._eta = eta
        self._top_clusters = top_clusters
        self._fit_points = fit_points
        self._finalists = finalists
        self._device_hours = device_hours
        self._spent_seconds = spent_seconds

    def jobs(self, history: History) -> Sequence[Job] | Finished:
        """The jobs of the first stage that still has some."""
        spent = self._spent_seconds + history.seconds
        if self._device_hours is not None and spent >= self._device_hours * 3600:
            return Finished(f"budget spent: {self._device_hours:g} device-hours")
        halving, survivors = self._halve(history)
        return halving or self._intra_jobs(history, survivors) or self._finish(history)

    def is_settled(self, history: History, candidate: Candidate) -> bool:
        """Whether the candidate has its p points for a curve, or is fully trained."""
        known = history.of(candidate)
        curve = self._search_rungs[-self._fit_points :]
        return known.top == self._rungs[-1] or all(known.at(rung) for rung in curve)

    def _halve(self, history: History) -> tuple[list[Job], list[CandidateCluster]]:
        survivors = [c for c in self._tree.clusters if self._stand_in(history, c)]
        for rung in self._search_rungs:
            if len(survivors) <= self._top_clusters:
                break
            medoids = [self._stand_in(history, cluster) for cluster in survivors]
            lacking = [m for m in medoids if m and not history.of(m).at(rung)]
            if lacking:
                return [Job(medoid, rung, "inter-cluster") for medoid in lacking], survivors
            keep = max(self._top_clusters, math.ceil(len(survivors) / self._eta))
            survivors = self._best(history, survivors, rung)[:keep]
        return [], survivors[: self._top_clusters]

    def _best(
        self, history: History, clusters: Sequence[CandidateCluster], rung: int
    ) -> list[CandidateCluster]:
        def score(cluster: CandidateCluster) -> float:
            medoid = self._stand_in(history, cluster)
            known = history.of(medoid).at(rung) if medoid else None
            return known.score if known else -math.inf

        return sorted(clusters, key=score, reverse=True)  # stable: ties keep the pool's order

    def _stand_in(self, history: History, cluster: CandidateCluster) -> Candidate | None:
        """The medoid, or where it cannot be trained the next candidate of its cluster."""
        return next((c for c in cluster.candidates if self._usable(history, c)), None)

    def _intra_jobs(self, history: History, clusters: Sequence[CandidateCluster]) -> list[Job]:
        curve = self._search_rungs[-self._fit_points :]
        return [
            Job(candidate, rung, "intra-cluster")
            for cluster in clusters
            for candidate in cluster.candidates
            if self._usable(history, candidate)
            and (rung := _first_missing(history, candidate, curve))
        ]

    def _finish(self, history: History) -> Sequence[Job] | Finished:
        full = self._rungs[-1]
        ranking = [e for e in self.ranking(history) if self._usable(history, e.candidate)]
        trained = sum(e.known == "measured" for e in ranking)
        if not ranking:
            return Finished("no candidate could be trained")
        rivals = self._ranker.tie_set(ranking)
        open_rivals = [e for e in rivals if e.known == "extrapolated"]
        if not open_rivals:
            return Finished("order settled: no candidate known by its curve rivals the leader")
        if trained >= self._finalists:
            return Finished(
                f"pool exhausted: all curves known, {trained} candidates fully trained"
            )
        return [Job(open_rivals[0].candidate, full, "finish")]


def _first_missing(history: History, candidate: Candidate, rungs: Sequence[int]) -> int | None:
    known = history.of(candidate)
    return next((rung for rung in rungs if known.at(rung) is None), None)
