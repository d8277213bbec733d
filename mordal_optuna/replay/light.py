"""Replay a search without an Optuna study, several times faster than on a study.

Bootstraps run thousands of searches. A plan is a pure function of the history, so the trials of
one worker can be simulated on a dictionary, in the same order. Stock samplers and pruners need a
study and cannot be replayed this way.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, cast

from mordal_optuna.errors import SearchError
from mordal_optuna.replay.simulate import Simulated
from mordal_optuna.search.history import CandidateHistory, History
from mordal_optuna.search.jobs import Finished, lowest_job
from mordal_optuna.search.tasks import PartialMeasurement, completed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.curves import Measurement
    from mordal_optuna.search.jobs import Job
    from mordal_optuna.search.plan import Plan


class Measured(Protocol):
    """Where the measurements of a simulated search are looked up, such as a `Grid`."""

    def measurement(self, candidate: Candidate, samples: int) -> Measurement:
        """The measurement of a pair at a rung."""
        ...


class MeasuredByTask(Measured, Protocol):
    """The same for several tasks, of which a rung may be scored on some."""

    def of_tasks(
        self, candidate: Candidate, samples: int, tasks: Sequence[str]
    ) -> PartialMeasurement:
        """The measurements of a pair at a rung on some tasks."""
        ...


@dataclass(frozen=True)
class Search:
    """A finished search.

    Attributes:
        history: all measurements.
        simulated: reason of the end, seconds, and measured rungs in their order.
    """

    history: History
    simulated: Simulated


def run_light(plan: Plan, grid: Measured | MeasuredByTask) -> Search:
    """Run a plan against a grid with one worker.

    As in a trial, a candidate continues to higher rungs as long as the plan has jobs for it.

    Args:
        plan: plan of the search.
        grid: a grid, or anything else that has the measurements; those of single tasks if the plan
            asks for them.

    Raises:
        GridError: if the search needs a measurement that the grid file lacks.
        SearchError: if the plan has no job that can run, or asks for a rung its candidate has.
    """
    measured: dict[Candidate, CandidateHistory] = {}
    run: list[tuple[Candidate, int]] = []
    seconds, current = 0.0, None
    while not isinstance(jobs := plan.jobs(history := _ordered(measured)), Finished):
        job = _next(history, jobs, current)
        if job is None:
            raise SearchError("the search waits for jobs that no worker runs")
        current, rung = job.candidate, job.samples
        before = measured.get(current, CandidateHistory())
        # Trials are numbered in their order: of equal scores, the first measured is the answer.
        after = replace(_with(before, job, grid, plan), last_trial=len(run))
        measured[current] = after
        seconds += after.seconds - before.seconds
        run.append((current, rung))
    return Search(_ordered(measured), Simulated(jobs.reason, seconds, tuple(run)))


def _with(
    before: CandidateHistory, job: Job, grid: Measured | MeasuredByTask, plan: Plan
) -> CandidateHistory:
    """The history of a candidate after a job."""
    if not job.tasks:
        new: Measurement | PartialMeasurement = grid.measurement(job.candidate, job.samples)
    else:
        found = cast("MeasuredByTask", grid).of_tasks(job.candidate, job.samples, job.tasks)
        new = completed(found, before.partial_at(job.samples), plan.tasks)
    if isinstance(new, PartialMeasurement):
        others = (m for m in before.partial if m.samples != job.samples)
        partial = tuple(sorted((*others, new), key=lambda m: m.samples))
        return replace(before, partial=partial)
    others = (m for m in before.partial if m.samples != job.samples)
    whole = tuple(sorted((*before.measurements, new), key=lambda m: m.samples))
    return replace(before, measurements=whole, partial=tuple(others))


def _next(history: History, jobs: Sequence[Job], current: Candidate | None) -> Job | None:
    """The current candidate's next job if the plan has one, else the first job.

    None if neither candidate has a rung that is left to score.
    """
    for candidate in (current, *(job.candidate for job in jobs[:1])):
        if candidate is None:
            continue
        job = lowest_job(jobs, candidate, history.of(candidate).top)
        if job:
            return job
    return None


def _ordered(measured: dict[Candidate, CandidateHistory]) -> History:
    # The order of a study's history, so that floating-point sums are bit-identical.
    return History({candidate: measured[candidate] for candidate in sorted(measured)})
