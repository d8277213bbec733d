"""Jobs, and lists of jobs that are generated as they are read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mordal_optuna.pool import Candidate
from mordal_optuna.search.jobs import Job, LazyJobs, jobs_of, llm_first

if TYPE_CHECKING:
    from collections.abc import Iterator


JOBS = [Job(Candidate("clip", name), samples, "some") for name in "ab" for samples in (1, 2)]


def lazy(jobs: list[Job]) -> LazyJobs:
    return LazyJobs(lambda: iter(jobs), lambda c: (j for j in jobs if j.candidate == c))


def test_it_is_a_sequence_like_the_list_of_the_same_jobs() -> None:
    for jobs in ([], JOBS[:1], JOBS):
        found = lazy(jobs)
        assert list(found) == jobs == found
        assert found == lazy(jobs)
        assert (bool(found), len(found)) == (bool(jobs), len(jobs))
        assert found[:2] == jobs[:2]
    assert (lazy(JOBS)[0], lazy(JOBS)[-1]) == (JOBS[0], JOBS[-1])
    assert lazy(JOBS) != JOBS[:3]
    assert lazy(JOBS) != "jobs"


def test_the_jobs_of_one_candidate_are_the_same_of_a_list_and_of_a_lazy_one() -> None:
    for candidate in (Candidate("clip", "b"), Candidate("clip", "c")):
        assert list(jobs_of(lazy(JOBS), candidate)) == list(jobs_of(JOBS, candidate))
    assert list(jobs_of(JOBS, Candidate("clip", "b"))) == JOBS[2:]


def test_looking_at_the_first_makes_no_other() -> None:
    made = []

    def every() -> Iterator[Job]:
        for job in JOBS:
            made.append(job)
            yield job

    jobs = LazyJobs(every, lambda _: ())
    assert jobs
    assert jobs[0] == next(iter(jobs)) == JOBS[0]
    assert set(made) == {JOBS[0]}


def test_no_job_is_generated_twice() -> None:
    """Finding the first job of a large pool may mean to pass thousands of finished ones."""
    generated: list[Job] = []

    def all_jobs() -> Iterator[Job]:
        for job in JOBS:
            generated.append(job)
            yield job

    jobs = LazyJobs(all_jobs, lambda _: ())
    assert jobs
    assert generated == JOBS[:1]  # no more than are read
    assert [list(jobs), list(jobs), jobs[0]] == [JOBS, JOBS, JOBS[0]]
    assert generated == JOBS


def test_an_llm_comes_first_only_among_the_tied_jobs_of_one_rung() -> None:
    def job(llm: str, samples: int = 1, *, tied: bool = True) -> Job:
        return Job(Candidate("clip", llm), samples, "some", tied=tied)

    mixed = [job("a"), job("b"), job("a"), job("b"), job("b", 2), job("b", tied=False)]
    assert llm_first(mixed, "b") == [mixed[1], mixed[3], mixed[0], mixed[2], *mixed[4:]]
    assert llm_first(mixed, "c") == mixed
    assert llm_first(mixed, None) == mixed
    ordered = [job("a", tied=False), job("b", tied=False)]
    assert llm_first(ordered, "b") == ordered
    assert llm_first([ordered[0], mixed[1]], "b") == [ordered[0], mixed[1]]
