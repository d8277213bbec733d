"""Lists of jobs that are made as they are looked at.

A large pool has thousands of jobs to do at any moment. The sampler wants the first that nobody
works on, the pruner those of one candidate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, overload

if TYPE_CHECKING:
    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.plan import Job


class LazyJobs(Sequence["Job"]):
    """A sequence of jobs of which only what is asked for is made; equal to a list of the same."""

    def __init__(
        self, every: Callable[[], Iterator[Job]], own: Callable[[Candidate], Iterable[Job]]
    ) -> None:
        """Promise a list.

        Args:
            every: starts over at the first job each time it is called; gives the same jobs.
            own: those of one candidate, in the same order.
        """
        self._every = every
        self._own = own

    def of(self, candidate: Candidate) -> tuple[Job, ...]:
        """The jobs of one candidate, without looking through those of the others."""
        return tuple(self._own(candidate))

    def __iter__(self) -> Iterator[Job]:
        return self._every()

    def __bool__(self) -> bool:
        return next(self._every(), None) is not None

    def __len__(self) -> int:
        return len(self._whole)

    @overload
    def __getitem__(self, index: int) -> Job: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Job]: ...
    def __getitem__(self, index: int | slice) -> Job | Sequence[Job]:
        if index == 0 and (first := next(self._every(), None)):
            return first
        return self._whole[index]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LazyJobs | list | tuple):
            return NotImplemented
        return self._whole == list(other)

    @cached_property
    def _whole(self) -> list[Job]:
        return list(self._every())


def jobs_of(jobs: Sequence[Job], candidate: Candidate) -> Sequence[Job]:
    """The jobs of one candidate in a plan's list, the quick way where there is one."""
    if isinstance(jobs, LazyJobs):
        return jobs.of(candidate)
    return [job for job in jobs if job.candidate == candidate]
