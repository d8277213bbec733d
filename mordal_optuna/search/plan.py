"""Plans: what to train next and when to stop, as pure functions of the history.

A plan lists the jobs it wants done now. Sampler and pruner ask the same question: the sampler
takes the first job nobody works on, the pruner lets a candidate go on while a job of its own is
listed. So any number of workers, restarts and stock partners see the same search.

Only jobs that the undisturbed search of one worker runs as well are ever listed: any number of
workers ends in the same ranking, and a worker waits only when nothing is certain to be needed.

Symbols:
    R   largest share of the alignment set before the finish
    D   samples of a full alignment
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

from mordal_optuna.errors import SearchError
from mordal_optuna.search.jobs import jobs_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.clusters import ClusterTree
    from mordal_optuna.search.history import CandidateHistory, History
    from mordal_optuna.search.ranking import Estimate, Ranker

# A failure may be passing; a second one is taken as the candidate's.
# A second time that another pruner stops a candidate where it stood is taken as its last word.
ATTEMPTS = 2

_NOBODY = "no candidate could be trained"


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
    """Nothing is left to do.

    Attributes:
        reason: why, for people.
        failed: no candidate could be trained, so there is no answer.
    """

    reason: str
    failed: bool = False


@dataclass(frozen=True)
class Budget:
    """How much may be spent.

    What running jobs are expected to take is reserved when they are asked for, and settled when
    they report. A job that was begun is finished, so the budget is exceeded by what the last one
    to begin takes beyond it, and by what jobs take longer than expected.

    Attributes:
        device_hours: stop once this much is spent; None sets no limit.
        spent_seconds: device-seconds spent before the first trial (features, CKA, warm-up).
    """

    device_hours: float | None = None
    spent_seconds: float = 0.0

    def over(self, history: History) -> Finished | None:
        """The reason to stop once it is spent."""
        if self.device_hours is None or self._left(history) > 0:
            return None
        return Finished(f"budget spent: {self.device_hours:g} device-hours")

    def has_room(
        self, history: History, rungs: Sequence[int], besides: Candidate | None = None
    ) -> bool:
        """Whether another job may begin beside those that run.

        Before any cost is known one job runs at a time: nothing tells what others would take.

        Args:
            history: what is known.
            rungs: of the plan, ascending.
            besides: a candidate whose running job is not counted, since it is the one in question.
        """
        if self.device_hours is None:
            return True
        running = [k for c, k in history.candidates.items() if k.running and c != besides]
        rates = _Rates.of(history) if running else None
        if rates is None:
            return not running and self._left(history) > 0
        return self._left(history) > sum(rates.of_job(known, rungs) for known in running)

    def _left(self, history: History) -> float:
        assert self.device_hours is not None
        return self.device_hours * 3600 - self.spent_seconds - history.seconds


@dataclass(frozen=True)
class _Rates:
    """What the pool's jobs took so far.

    Attributes:
        training: device-seconds a sample, where checkpoints are reused.
        evaluation: device-seconds a score.
        plain: device-seconds a sample of trials that tell no costs and train from the start.
    """

    training: float
    evaluation: float
    plain: float

    @staticmethod
    def of(history: History) -> _Rates | None:
        """Means over the pool; None where nothing is known yet."""
        known = history.candidates.values()
        scores = sum(len(k.measurements) for k in known)
        told = [k for k in known if k.train_seconds]
        training = sum(k.train_seconds for k in told) / (sum(k.top for k in told) or 1)
        evaluation = sum(k.eval_seconds for k in known) / (scores or 1)
        plain = sum(k.other_seconds for k in known if k.trained)
        plain /= sum(k.trained for k in known) or 1
        return _Rates(training, evaluation, plain) if training or evaluation or plain else None

    def of_job(self, known: CandidateHistory, rungs: Sequence[int]) -> float:
        """What a candidate's running job is expected to take still."""
        following = next((rung for rung in rungs if rung > known.top), known.top)
        until = max(known.granted, following)
        return self.plain * until + self.training * (until - known.top) + self.evaluation


@dataclass(frozen=True)
class Finish:
    """How the leaders are told apart once the search below R is done.

    Attributes:
        finalists: candidates that go on, at most; 0 trusts the curves.
        race: rungs between R and D, ascending. At each the best 1/eta of those that came there go
            on to the next one, and whoever is left alone has won. Without such rungs the
            finalists are trained on all of D, and only those that cannot be told from the leader
            are.
        eta: finalists that compete for one place, at least 2.
        train_winner: whether the race's winner is trained on all of D; and, while fewer than eta
            are, whoever is estimated above it then.
    """

    finalists: int = 0
    race: tuple[int, ...] = ()
    eta: int = 2
    train_winner: bool = False

    def places(self) -> tuple[int, ...]:
        """How many are in the race at each of its rungs."""
        counts = [self.finalists]
        for _ in self.race[1:]:
            counts.append(math.ceil(counts[-1] / self.eta))
        return tuple(counts[: len(self.race)])


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

    def has_room(self, history: History, besides: Candidate | None = None) -> bool:
        """Whether the budget leaves room for a job beside those that run.

        Args:
            history: what is known.
            besides: a candidate whose running job is the one in question.
        """
        ...

    @property
    def ranker(self) -> Ranker:
        """Turns a history into curves, a ranking and a tie set."""
        ...

    def ranking(self, history: History) -> tuple[Estimate, ...]:
        """What is believed of every candidate of the pool at r = 1, best first."""
        ...

    @property
    def answer_rung(self) -> int:
        """The highest rung that the plan asks for: that at which its winner is measured."""
        ...

    @property
    def close_rung(self) -> int:
        """The lowest rung of those at which the plan compares the leaders."""
        ...

    def answer(self, history: History, candidate: Candidate) -> float | None:
        """The value that decides between candidates at the end, 0..1; None before it is final."""
        ...

    def winner(self, history: History) -> Candidate | None:
        """The candidate with the best answer, or who leads before there is any.

        None before any score.
        """
        ...

    def is_settled(self, history: History, candidate: Candidate) -> bool:
        """Whether a candidate is estimated as finely as the plan asks for."""
        ...


def next_job(plan: Plan, history: History) -> Job | Wait | Finished:
    """The first wanted job that nobody works on and the budget has room for."""
    jobs = plan.jobs(history)
    if isinstance(jobs, Finished):
        return jobs
    if not plan.has_room(history):
        return Wait()
    return next((job for job in jobs if not history.of(job.candidate).running), Wait())


def verdict(plan: Plan, history: History, candidate: Candidate, samples: int) -> bool:
    """Whether a candidate scored at `samples` should go on: a job of its own lies further up.

    At the last rung it always may: there is nothing left to save, and its trial is complete. Up
    to the rung that its trial was asked for it may as well: that is decided.
    """
    if samples >= plan.rungs[-1] or samples < history.of(candidate).granted:
        return True
    return wanted_rung(plan, history, candidate, samples) is not None


def wanted_rung(plan: Plan, history: History, candidate: Candidate, top: int) -> int | None:
    """Where the plan wants a candidate scored next, above `top` samples; None if nowhere now."""
    jobs = plan.jobs(history)
    if isinstance(jobs, Finished):
        return None
    wanted = [job.samples for job in jobs_of(jobs, candidate) if job.samples > top]
    if not wanted or not plan.has_room(history, besides=candidate):
        return None
    return min(wanted)


def next_rung(plan: Plan, top: int) -> int | None:
    """The next rung above `top` samples, where some other sampler or pruner chose to go on."""
    return next((rung for rung in plan.rungs if rung > top), None)


class PooledPlan(ABC):
    """What all plans over a fixed pool share: checks, the budget, the finish, the winner."""

    def __init__(
        self,
        tree: ClusterTree,
        rungs: Sequence[int],
        full_samples: int,
        ranker: Ranker,
        *,
        finish: Finish | None = None,
        budget: Budget | None = None,
    ) -> None:
        """Plan over a pool.

        Args:
            tree: the pool and its clusters.
            rungs: ascending sample counts before the finish, at most D.
            full_samples: D.
            ranker: estimates.
            finish: how it ends; by default the curves are trusted.
            budget: when to stop in any case.

        Raises:
            SearchError: if the rungs do not ascend or exceed D, or those of the race do not lie
                between R and D.
        """
        if not rungs or list(rungs) != sorted(set(rungs)) or rungs[0] < 1:
            raise SearchError(
                f"rungs {list(rungs)} were given; they must be strictly ascending sample counts"
            )
        if rungs[-1] > full_samples:
            raise SearchError(
                f"rungs {list(rungs)} were given; the last must be at most {full_samples} (the "
                "full alignment set)"
            )
        self._finish_by = finish or Finish()
        race = self._finish_by.race
        if any(low >= high for low, high in pairwise((rungs[-1], *race, full_samples)) if race):
            raise SearchError(
                f"rungs {list(race)} of the race were given; they must be strictly ascending "
                f"between {rungs[-1]} (the highest rung before it) and {full_samples} (the full "
                "alignment set)"
            )
        self._tree = tree
        self._search_rungs = tuple(rungs)
        self._rungs = tuple(dict.fromkeys((*rungs, *race, full_samples)))
        self._ranker = ranker
        self._budget = budget or Budget()

    @property
    def rungs(self) -> tuple[int, ...]:
        """All rungs, ascending; the last is D."""
        return self._rungs

    @property
    def finish_rungs(self) -> tuple[int, ...]:
        """The rungs of the finish, ascending; the last is D."""
        return (*self._finish_by.race, self._rungs[-1])

    @property
    def vision_encoders(self) -> tuple[str, ...]:
        """Names of the pool's encoders, in its order."""
        return self._tree.vision_encoders

    @property
    def llms(self) -> tuple[str, ...]:
        """Names of the pool's LLMs, in its order."""
        return self._tree.llms

    @property
    def ranker(self) -> Ranker:
        """Turns a history into curves, a ranking and a tie set."""
        return self._ranker

    def ranking(self, history: History) -> tuple[Estimate, ...]:
        """What is believed of every candidate of the pool at r = 1, best first."""
        return self._ranker.rank(history)

    @property
    def answer_rung(self) -> int:
        """The highest rung that the plan asks for: that at which its winner is measured.

        D where the leaders are trained fully; R where the curves are trusted; in a race the last
        rung at which two are compared, or D where its winner is trained on.
        """
        if not self._finish_by.finalists:
            return self._search_rungs[-1]
        if not self._finish_by.race or self._finish_by.train_winner:
            return self._rungs[-1]
        places = zip(self._finish_by.race, self._finish_by.places(), strict=True)
        compared = [rung for rung, count in places if count > 1]
        return compared[-1] if compared else self._search_rungs[-1]

    @property
    def close_rung(self) -> int:
        """The lowest rung of those at which the plan compares the leaders."""
        return min(self.finish_rungs[0], self.answer_rung)

    def answer(self, history: History, candidate: Candidate) -> float | None:
        """The score at the highest rung that the plan asks for; None before it is known."""
        return self._ranker.answer(history.of(candidate), self.answer_rung)

    def winner(self, history: History) -> Candidate | None:
        """The best measured at the highest rung that the plan asks for.

        Before there is any: who leads those that have come furthest, or, where nobody has come
        up to R, those with any score. None before any score.
        """
        answers = {c: a for c in history.candidates if (a := self.answer(history, c)) is not None}
        if answers:
            ranked = [e.candidate for e in self._ranker.rank_trained(history)]
            # Of equal ones the first to be measured, as Optuna's best trial is.
            return max(
                (c for c in ranked if c in answers),
                key=lambda c: (answers[c], -(history.of(c).last_trial or 0)),
            )
        return self._leader(history)

    def _leader(self, history: History) -> Candidate | None:
        ranking = self._ranker.rank_trained(history)
        close = [e for e in ranking if e.samples >= self._search_rungs[-1]]
        if close and self._finish_by.race:
            furthest = max(e.samples for e in close)
            close = [e for e in close if e.samples == furthest]
        return next((e.candidate for e in close or ranking), None)

    def is_settled(self, history: History, candidate: Candidate) -> bool:
        """Whether the candidate is scored at R or above."""
        return history.of(candidate).top >= self._search_rungs[-1]

    def jobs(self, history: History) -> Sequence[Job] | Finished:
        """What is wanted now, best first, running or not; or why nothing is."""
        over = self._budget.over(history)
        return over or self._search_jobs(history) or self._finish(history)

    def has_room(self, history: History, besides: Candidate | None = None) -> bool:
        """Whether the budget leaves room for a job beside those that run."""
        return self._budget.has_room(history, self._rungs, besides)

    @abstractmethod
    def _search_jobs(self, history: History) -> Sequence[Job]:
        """The jobs before the finish; none once it may begin."""

    def _usable(self, history: History, candidate: Candidate) -> bool:
        return usable(history.of(candidate))

    def _contenders(self, searched: History) -> list[Estimate]:
        """Who may become a finalist, best first."""
        top = self._search_rungs[-1]
        return [e for e in self._ranker.rank_trained(searched) if e.samples >= top]

    def rivals(self, history: History) -> tuple[Candidate, ...]:
        """Those whom the finish tells apart, the best first, from the scores before it.

        In a race all its places are taken: a place costs little, and an interval from few points
        is no ground to refuse one. Training on all of D is for those that cannot be told from the
        leader.
        """
        searched = history.below(self.finish_rungs[0])
        ranking = [e for e in self._contenders(searched) if self._usable(history, e.candidate)]
        if self._finish_by.race and self._finish_by.finalists:
            return tuple(e.candidate for e in ranking[: self._finish_by.finalists])
        return tuple(e.candidate for e in self._ranker.tie_set(ranking)) if ranking else ()

    def _finish(self, history: History) -> list[Job] | Finished:
        """Tell the leaders apart by training them further.

        Who goes on to a rung is chosen from the scores below it alone, so that workers that
        finish in another order choose the same.
        """
        full = self._rungs[-1]
        if self._search_rungs[-1] == full:
            done = any(known.at(full) for known in history.candidates.values())
            return Finished(
                "pool exhausted: all that were to be trained fully are" if done else _NOBODY,
                failed=not done,
            )
        rivals = self.rivals(history)
        if not rivals:
            return Finished(_NOBODY, failed=True)
        finalists = rivals[: self._finish_by.finalists]
        if self._finish_by.race and finalists:
            return self._race(history, finalists)
        jobs = self._missing(history, finalists, full)
        jobs = jobs or self._challenge(history, self._finish_by.finalists)
        if jobs:
            return jobs
        if len(rivals) == 1 and self._led_before(history, rivals[0]):
            return Finished(
                "order settled: the leader is the same at the last two rungs and has no rival "
                "within the noise"
            )
        trained = sum(bool(known.at(full)) for known in history.candidates.values())
        return Finished(f"pool exhausted: {trained} finalists fully trained")

    def _challenge(self, history: History, most: int) -> list[Job]:
        """Whoever leads by a curve, while fewer than so many are trained on all of D.

        Scores of finalists can disappoint, and whoever leads then was told apart too early.
        """
        full = self._rungs[-1]
        trained = [c for c, known in history.candidates.items() if known.at(full)]
        if not 0 < len(trained) < most:
            return []
        ranking = [e for e in self._contenders(history) if self._usable(history, e.candidate)]
        leaders = [e.candidate for e in ranking[:1] if e.candidate not in trained]
        return [Job(candidate, full, "finish") for candidate in leaders]

    def _race(self, history: History, finalists: Sequence[Candidate]) -> list[Job] | Finished:
        """Halve the finalists from rung to rung until one is left."""
        full, left = self._rungs[-1], list(finalists)
        steps = zip((*self._finish_by.race, full), (*self._finish_by.places(), 1), strict=True)
        for rung, places in steps:
            if len(left) > 1:
                ranking = self._contenders(history.below(rung))
                left = [e.candidate for e in ranking if e.candidate in left][:places]
            if len(left) == 1:
                break
            jobs = self._missing(history, left, rung)
            if jobs:
                return jobs
        if not history.of(left[0]).at(self.answer_rung):  # so far, or nobody was left to race
            return [Job(left[0], self.answer_rung, "finish")]
        challenge = self._finish_by.train_winner and self._challenge(history, self._finish_by.eta)
        return challenge or Finished(f"race won: the last of {len(finalists)} finalists")

    def _missing(self, history: History, candidates: Sequence[Candidate], rung: int) -> list[Job]:
        return [Job(c, rung, "finish") for c in candidates if not history.of(c).at(rung)]

    def _led_before(self, history: History, leader: Candidate) -> bool:
        searched = history.below(self.finish_rungs[0])
        before = self._contenders_below(searched, self._search_rungs[-1])
        return bool(before) and before[0].candidate == leader

    def _contenders_below(self, searched: History, rung: int) -> list[Estimate]:
        same = {e.candidate for e in self._contenders(searched)}
        ranking = self._ranker.rank_trained(searched.below(rung))
        return [e for e in ranking if e.candidate in same]


def usable(known: CandidateHistory) -> bool:
    """Whether a candidate with this history may be trained."""
    return known.failures < ATTEMPTS and known.overruled < ATTEMPTS


def first_missing(known: CandidateHistory, rungs: Sequence[int]) -> int | None:
    """The lowest of the rungs that a candidate with this history was not scored at."""
    scored = {measurement.samples for measurement in known.measurements}
    return next((rung for rung in rungs if rung not in scored), None)
