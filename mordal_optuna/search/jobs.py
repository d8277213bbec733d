"""Jobs: what a plan wants trained, and lists of jobs that are generated on demand.

A large pool has thousands of wanted jobs at any moment. The sampler needs only the first job that
no worker runs, the pruner only the jobs of one candidate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import takewhile
from typing import TYPE_CHECKING, overload

from mordal_optuna.search.history import ATTEMPTS, DEATHS_PER_ATTEMPT

if TYPE_CHECKING:
    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.history import CandidateHistory


@dataclass(frozen=True)
class Job:
    """Train a candidate up to a number of samples and score it there.

    Attributes:
        candidate: the pair to train.
        samples: rung, in alignment samples.
        stage: stage of the search that wants the job, such as "inter-cluster".
        tasks: names of the tasks to score; empty scores all tasks of the study.
        tied: whether its place says nothing among the jobs beside it in the list that are tied as
            well and of the same stage and rung: all of them will be done, and the search decides
            nothing before. Never under a budget that may end between them.
    """

    candidate: Candidate
    samples: int
    stage: str
    tasks: tuple[str, ...] = ()
    tied: bool = field(default=False, compare=False)


@dataclass(frozen=True)
class Wait:
    """Every job that may begin now is already running on another worker."""


@dataclass(frozen=True)
class Finished:
    """The search is over.

    Attributes:
        reason: why it ended, as users read it.
        failed: True if no candidate could be trained, so that there is no winner.
    """

    reason: str
    failed: bool = False


class LazyJobs(Sequence[Job]):
    """A sequence of jobs that are generated as they are read; equal to a list of the same jobs."""

    def __init__(
        self,
        all_jobs: Callable[[], Iterator[Job]],
        jobs_of_candidate: Callable[[Candidate], Iterable[Job]],
    ) -> None:
        """Wrap two generators of the same jobs.

        Args:
            all_jobs: starts a new iteration over all jobs at each call; always the same jobs.
            jobs_of_candidate: returns the jobs of one candidate, in the same order.
        """
        self._all_jobs = all_jobs
        self._read: list[Job] = []  # jobs that were generated so far
        self._rest: Iterator[Job] | None = None
        self._jobs_of_candidate = jobs_of_candidate

    def of(self, candidate: Candidate) -> tuple[Job, ...]:
        """The jobs of one candidate, without generating those of the others."""
        return tuple(self._jobs_of_candidate(candidate))

    def __iter__(self) -> Iterator[Job]:
        """Generates no job twice: finding the first one may mean to pass thousands of others."""
        if self._rest is None:
            self._rest = self._all_jobs()
        number = 0
        while True:
            if number == len(self._read):
                job = next(self._rest, None)
                if job is None:
                    return
                self._read.append(job)
            yield self._read[number]
            number += 1

    def __bool__(self) -> bool:
        return next(iter(self), None) is not None

    def __len__(self) -> int:
        return len(self._whole)

    @overload
    def __getitem__(self, index: int) -> Job: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Job]: ...
    def __getitem__(self, index: int | slice) -> Job | Sequence[Job]:
        if index == 0 and (first := next(iter(self), None)):
            return first
        return self._whole[index]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LazyJobs | list | tuple):
            return NotImplemented
        return self._whole == list(other)

    @cached_property
    def _whole(self) -> list[Job]:
        return list(iter(self))  # without its length, which would need the whole


def llm_first(jobs: Sequence[Job], llm: str | None) -> Sequence[Job]:
    """Jobs in an order in which those with an LLM come first among the first ones that are tied.

    Args:
        jobs: wanted jobs, most wanted first, at least one.
        llm: name of the LLM; None leaves the order.
    """

    def alike(job: Job) -> bool:
        return job.tied and (job.stage, job.samples) == (jobs[0].stage, jobs[0].samples)

    tied = list(takewhile(alike, jobs))
    return [*sorted(tied, key=lambda job: job.candidate.llm != llm), *jobs[len(tied) :]]


def jobs_of(jobs: Sequence[Job], candidate: Candidate) -> Sequence[Job]:
    """The jobs of one candidate in a plan's list, without reading the whole list if it is lazy."""
    if isinstance(jobs, LazyJobs):
        return jobs.of(candidate)
    return [job for job in jobs if job.candidate == candidate]


def lowest_job(jobs: Sequence[Job], candidate: Candidate, top: int) -> Job | None:
    """The job of a candidate at the lowest rung that is left to score; None without one.

    Args:
        jobs: wanted jobs of a plan.
        candidate: the pair.
        top: highest rung of the pair, in samples. Jobs below it cannot be done any more; at it,
            further tasks can be scored.
    """
    wanted = [
        job
        for job in jobs_of(jobs, candidate)
        if job.samples > top or (job.tasks and job.samples == top)
    ]
    if not wanted:
        return None
    lowest = min(job.samples for job in wanted)
    return _joined([job for job in wanted if job.samples == lowest])


def _joined(jobs: Sequence[Job]) -> Job:
    """Jobs of one candidate at one rung as one, which scores the tasks of all of them.

    Args:
        jobs: the jobs, at least one.
    """
    if not all(job.tasks for job in jobs):
        return replace(jobs[0], tasks=())
    return replace(jobs[0], tasks=tuple(dict.fromkeys(t for job in jobs for t in job.tasks)))


def usable(record: CandidateHistory) -> bool:
    """Whether a candidate with this history may be trained."""
    return (
        record.failures < record.attempts
        and record.overruled < ATTEMPTS
        and record.deaths < DEATHS_PER_ATTEMPT * record.attempts
    )


def first_missing(record: CandidateHistory, rungs: Sequence[int]) -> int | None:
    """The lowest of the rungs at which a candidate with this history has no score, or None."""
    scored = {measurement.samples for measurement in record.measurements}
    return next((rung for rung in rungs if rung not in scored), None)
