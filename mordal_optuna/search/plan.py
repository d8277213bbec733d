"""Plans: what to train next and when to stop, as pure functions of the history.

A plan lists the jobs that are wanted now. Sampler and pruner ask the same plan: the sampler
proposes the first job that no worker runs, and the pruner lets a candidate continue while the plan
lists a job of that candidate. So any number of workers, a restarted study, and a study with a
stock sampler or pruner follow the same search.

A plan lists only jobs that a search with one worker would run as well. So every number of workers
ends with the same ranking, and a worker waits only when no further job is certain to be needed.

Symbols:
    R   max_ratio, the largest share of the alignment set before the finish
    D   samples of a full alignment
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Protocol

from mordal_optuna.errors import SearchError
from mordal_optuna.search.budget import Budget
from mordal_optuna.search.finish import Finish
from mordal_optuna.search.history import ATTEMPTS
from mordal_optuna.search.jobs import Finished, Job, Wait, lowest_job, usable

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.clusters import ClusterTree
    from mordal_optuna.search.history import History
    from mordal_optuna.search.ranking import Estimate, Ranker

_NOTHING_TRAINED = "no candidate could be trained"


class Plan(Protocol):
    """A search method: decides what to train, when to stop, and which pair wins.

    A plan keeps no state: every answer is a function of the history.
    """

    @property
    def rungs(self) -> tuple[int, ...]:
        """All rungs in samples, ascending; the last is D."""
        ...

    @property
    def vision_encoders(self) -> tuple[str, ...]:
        """Names of the pool's vision encoders, in the pool's order."""
        ...

    @property
    def llms(self) -> tuple[str, ...]:
        """Names of the pool's LLMs, in the pool's order."""
        ...

    def jobs(self, history: History) -> Sequence[Job] | Finished:
        """The wanted jobs, most wanted first, including those that run; `Finished` at the end.

        An empty sequence means that the search is not over and no job is wanted now. A plan that
        leaves the choice of candidates to a stock sampler always returns one of these two.
        """
        ...

    def has_room(self, history: History, besides: Candidate | None = None) -> bool:
        """Whether the budget has room for another job beside the running ones.

        Args:
            history: history of the study.
            besides: candidate whose running job is the one in question; None for a new job.
        """
        ...

    @property
    def tasks(self) -> Mapping[str, float]:
        """Weight of each task by its name, in a search for several; empty for one."""
        ...

    @property
    def ranker(self) -> Ranker:
        """Computes curves, rankings and tie sets from a history."""
        ...

    def ranking(self, history: History) -> tuple[Estimate, ...]:
        """Estimates of all candidates of the pool at r = 1, best first."""
        ...

    @property
    def answer_rung(self) -> int:
        """The highest rung that the plan asks for, at which the winner is measured."""
        ...

    @property
    def close_rung(self) -> int:
        """The lowest rung at which the plan compares the finalists."""
        ...

    def answer(self, history: History, candidate: Candidate) -> float | None:
        """The value by which the winner is chosen, 0 to 1; None before it is final."""
        ...

    def winner(self, history: History) -> Candidate | None:
        """The candidate with the best answer; without answers the leader; None without scores."""
        ...

    def is_settled(self, history: History, candidate: Candidate) -> bool:
        """Whether the plan needs no further score to estimate a candidate."""
        ...


def next_job(plan: Plan, history: History) -> Job | Wait | Finished:
    """The most wanted job that no worker runs and that fits into the budget.

    Args:
        plan: plan that lists the jobs.
        history: history of the study.
    """
    jobs = next_jobs(plan, history, 1)
    if isinstance(jobs, Finished):
        return jobs
    return jobs[0] if jobs else Wait()


def next_jobs(
    plan: Plan, history: History, most: int, besides: Collection[Candidate] = ()
) -> list[Job] | Finished:
    """The most wanted jobs that no worker runs, if the budget has room for one; else none.

    Args:
        plan: plan that lists the jobs.
        history: history of the study.
        most: largest number of jobs, at least 1.
        besides: candidates that are taken although the history does not show it.
    """
    jobs = plan.jobs(history)
    if isinstance(jobs, Finished):
        return jobs
    if not plan.has_room(history):
        return []
    free = (
        job
        for job in jobs
        if job.candidate not in besides and not history.of(job.candidate).running
    )
    return list(islice(free, most))


def may_continue(plan: Plan, history: History, candidate: Candidate, samples: int) -> bool:
    """Whether a candidate scored at `samples` may train on: the plan wants it at a higher rung.

    Always true below the rung that the running trial was asked for, which was decided when the
    trial began, and at the last rung, where the trial is complete and nothing can be saved.
    """
    if samples >= plan.rungs[-1] or samples < history.of(candidate).granted:
        return True
    return wanted_rung(plan, history, candidate, samples) is not None


def wanted_job(plan: Plan, history: History, candidate: Candidate, top: int) -> Job | None:
    """The job of a candidate at the lowest rung that the plan wants it scored at now, or None.

    The rung is above `top` samples, or is `top` if the plan wants it scored on further tasks. Also
    None if the budget has no room for the job.
    """
    jobs = plan.jobs(history)
    if isinstance(jobs, Finished):
        return None
    job = lowest_job(jobs, candidate, top)
    return job if job and plan.has_room(history, besides=candidate) else None


def wanted_rung(plan: Plan, history: History, candidate: Candidate, top: int) -> int | None:
    """The rung of `wanted_job`, in samples."""
    job = wanted_job(plan, history, candidate, top)
    return job.samples if job else None


def next_rung(plan: Plan, top: int) -> int | None:
    """The next rung above `top` samples, for candidates that a stock sampler or pruner chose."""
    return next((rung for rung in plan.rungs if rung > top), None)


class PooledPlan(ABC):
    """A plan over a fixed pool: argument checks, the budget, the finish, and the winner.

    Subclasses implement `search_jobs`; they may override `eligible` and `finish_candidates`.

    Attributes:
        attempts: number of failures after which a candidate is given up, at least 1.
    """

    attempts: int = ATTEMPTS

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
        """Create a plan.

        Args:
            tree: the pool and its clusters.
            rungs: strictly ascending sample counts before the finish, at most D.
            full_samples: D.
            ranker: computes the estimates.
            finish: how the finalists are compared; by default no finalist is trained further.
            budget: limit of device time; by default none.

        Raises:
            SearchError: if the rungs do not ascend or exceed D, or if the race rungs do not lie
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
        self._finish = finish or Finish()
        race = self._finish.race
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
        # Without a budget the order of jobs that are all certain decides nothing.
        self._unlimited = self._budget.device_hours is None

    @property
    def rungs(self) -> tuple[int, ...]:
        """All rungs in samples, ascending; the last is D."""
        return self._rungs

    @property
    def search_rungs(self) -> tuple[int, ...]:
        """The rungs before the finish, ascending; the last is R."""
        return self._search_rungs

    @property
    def finish_rungs(self) -> tuple[int, ...]:
        """The rungs of the finish, ascending; the last is D."""
        return (*self._finish.race, self._rungs[-1])

    @property
    def vision_encoders(self) -> tuple[str, ...]:
        """Names of the pool's vision encoders, in the pool's order."""
        return self._tree.vision_encoders

    @property
    def llms(self) -> tuple[str, ...]:
        """Names of the pool's LLMs, in the pool's order."""
        return self._tree.llms

    @property
    def tasks(self) -> Mapping[str, float]:
        """Weight of each task by its name; empty in a search that does not tell tasks apart."""
        return {}

    @property
    def ranker(self) -> Ranker:
        """Computes curves, rankings and tie sets from a history."""
        return self._ranker

    def ranking(self, history: History) -> tuple[Estimate, ...]:
        """Estimates of all candidates of the pool at r = 1, best first."""
        return self._ranker.rank(history)

    @property
    def answer_rung(self) -> int:
        """The highest rung that the plan asks for, at which the winner is measured.

        R if no finalist is trained further; D if the finalists are trained fully or the winner of
        the race is; otherwise the last race rung at which two finalists are compared.
        """
        if not self._finish.finalists:
            return self._search_rungs[-1]
        if not self._finish.race or self._finish.train_winner:
            return self._rungs[-1]
        places = zip(self._finish.race, self._finish.places(), strict=True)
        compared = [rung for rung, count in places if count > 1]
        return compared[-1] if compared else self._search_rungs[-1]

    @property
    def close_rung(self) -> int:
        """The lowest rung at which the plan compares the finalists."""
        return min(self.finish_rungs[0], self.answer_rung)

    def answer(self, history: History, candidate: Candidate) -> float | None:
        """The candidate's score at the answer rung, 0 to 1; None before it is measured."""
        return self._ranker.answer(history.of(candidate), self.answer_rung)

    def winner(self, history: History) -> Candidate | None:
        """The candidate with the best answer; of equal ones, the one with the best estimate.

        Before any answer: the leader of the candidates scored at R or above (in a race, of those
        at the highest rung reached); before any such score, the leader of all scored candidates.
        None before any score.
        """
        answers = {c: a for c in history.candidates if (a := self.answer(history, c)) is not None}
        if not answers:
            return self.leader(history)
        best = max(answers.values())
        tied = [candidate for candidate, answer in answers.items() if answer == best]
        # The order of trials, which depends on the number of workers, decides nothing.
        order = self.ranking(history) if len(tied) > 1 else ()
        return next((e.candidate for e in order if e.candidate in tied), tied[0])

    def leader(self, history: History) -> Candidate | None:
        """The winner as long as no candidate has an answer, see `winner`."""
        ranking = self._ranker.rank_trained(history)
        close = [e for e in ranking if e.samples >= self._search_rungs[-1]]
        if close and self._finish.race:
            furthest = max(e.samples for e in close)
            close = [e for e in close if e.samples == furthest]
        return next((e.candidate for e in close or ranking), None)

    def is_settled(self, history: History, candidate: Candidate) -> bool:
        """Whether the candidate is scored at R or above."""
        return history.of(candidate).top >= self._search_rungs[-1]

    def jobs(self, history: History) -> Sequence[Job] | Finished:
        """The wanted jobs, most wanted first, including those that run; `Finished` at the end."""
        over = self._budget.over(history)
        return over or self.search_jobs(history) or self._finish_jobs(history)

    def has_room(self, history: History, besides: Candidate | None = None) -> bool:
        """Whether the budget has room for another job beside the running ones."""
        return self._budget.has_room(history, self._rungs, besides)

    @abstractmethod
    def search_jobs(self, history: History) -> Sequence[Job]:
        """The wanted jobs before the finish; empty once the finish may begin."""

    def eligible(self, history: History) -> list[Estimate]:
        """Estimates of the candidates that may become finalists, best first."""
        top = self._search_rungs[-1]
        return [e for e in self._ranker.rank_trained(history) if e.samples >= top]

    def finish_candidates(self, history: History) -> tuple[Candidate, ...]:
        """Candidates for the finish, best first, chosen from the scores below its first rung.

        In a race: as many as it has places, whatever their intervals, because a place costs little
        and an interval from few points is no reason to exclude a candidate. Without a race: all
        candidates within noise of the leader, of which the plan trains the first `finalists`.
        """
        searched = history.below(self.finish_rungs[0])
        ranking = [e for e in self.eligible(searched) if usable(history.of(e.candidate))]
        if self._finish.race and self._finish.finalists:
            return tuple(e.candidate for e in ranking[: self._finish.finalists])
        return tuple(e.candidate for e in self._ranker.tie_set(ranking)) if ranking else ()

    def _finish_jobs(self, history: History) -> list[Job] | Finished:
        """Jobs of the finalists.

        Promotion to a rung depends only on the scores below that rung, so that workers that
        finish in another order promote the same candidates.
        """
        full = self._rungs[-1]
        if self._search_rungs[-1] == full:
            done = any(record.at(full) for record in history.candidates.values())
            return Finished(
                "pool exhausted: all planned candidates are fully trained"
                if done
                else _NOTHING_TRAINED,
                failed=not done,
            )
        candidates = self.finish_candidates(history)
        if not candidates:
            return Finished(_NOTHING_TRAINED, failed=True)
        finalists = candidates[: self._finish.finalists]
        if self._finish.race and finalists:
            return self._race_jobs(history, finalists)
        jobs = self._missing(history, finalists, full)
        jobs = jobs or self._challenger_jobs(history, self._finish.finalists)
        if jobs:
            return jobs
        if len(candidates) == 1 and self._led_before(history, candidates[0]):
            return Finished(
                "order settled: the leader is the same at the last two rungs and has no rival "
                "within the noise"
            )
        trained = sum(bool(record.at(full)) for record in history.candidates.values())
        return Finished(f"pool exhausted: {trained} finalists fully trained")

    def _challenger_jobs(self, history: History, most: int) -> list[Job]:
        """The full alignment of a leader that was not a finalist.

        The full scores of the finalists can fall below the estimate of another candidate. That
        candidate is then trained on D samples as well, while fewer than `most` candidates are.
        """
        full = self._rungs[-1]
        trained = [c for c, record in history.candidates.items() if record.at(full)]
        if not 0 < len(trained) < most:
            return []
        ranking = [e for e in self.eligible(history) if usable(history.of(e.candidate))]
        leaders = [e.candidate for e in ranking[:1] if e.candidate not in trained]
        return [Job(candidate, full, "finish") for candidate in leaders]

    def _race_jobs(self, history: History, finalists: Sequence[Candidate]) -> list[Job] | Finished:
        """Successive halving of the finalists over the race rungs until one is left."""
        full, left = self._rungs[-1], list(finalists)
        steps = zip((*self._finish.race, full), (*self._finish.places(), 1), strict=True)
        for rung, places in steps:
            if len(left) > 1:
                ranking = self.eligible(history.below(rung))
                left = [e.candidate for e in ranking if e.candidate in left][:places]
            if len(left) == 1:
                break
            jobs = self._missing(history, left, rung)
            if jobs:
                return jobs
        # The last finalist may lack a score at the answer rung: if it had no competitor there, or
        # if the winner is trained on D samples.
        if not history.of(left[0]).at(self.answer_rung):
            return [Job(left[0], self.answer_rung, "finish")]
        jobs = (
            self._challenger_jobs(history, self._finish.eta) if self._finish.train_winner else []
        )
        return jobs or Finished(f"race won: the last of {len(finalists)} finalists")

    def _missing(self, history: History, candidates: Sequence[Candidate], rung: int) -> list[Job]:
        return [
            Job(c, rung, "finish", tied=self._unlimited)
            for c in candidates
            if not history.of(c).at(rung)
        ]

    def _led_before(self, history: History, leader: Candidate) -> bool:
        """Whether a candidate also led by the scores below R, among those eligible now."""
        searched = history.below(self.finish_rungs[0])
        eligible = {e.candidate for e in self.eligible(searched)}
        before = self._ranker.rank_trained(searched.below(self._search_rungs[-1]))
        return next((e.candidate for e in before if e.candidate in eligible), None) == leader
