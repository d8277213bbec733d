"""Replay a search without an Optuna study, several times faster than on a study.

Bootstraps run thousands of searches. A plan is a pure function of the history, so the trials of
one worker can be simulated on a dictionary, in the same order. Stock samplers and pruners need a
study and cannot be replayed this way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from mordal_optuna.errors import SearchError
from mordal_optuna.replay.simulate import Simulated
from mordal_optuna.search.history import CandidateHistory, History
from mordal_optuna.search.jobs import Finished

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.curves import Measurement
    from mordal_optuna.search.jobs import Job
    from mordal_optuna.search.plan import Plan


class Measured(Protocol):
    """Where the measurements of a simulated search are looked up, such as a `Grid`."""

    def measurement(self, candidate: Candidate, samples: int) -> Measurement:
        """The measurement of a pair at a rung."""
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


def run_light(plan: Plan, grid: Measured) -> Search:
    """Run a plan against a grid with one worker.

    As in a trial, a candidate continues to higher rungs as long as the plan has jobs for it.

    Args:
        plan: plan of the search.
        grid: a grid, or anything else that has the measurements.

    Raises:
        GridError: if the search needs a measurement that the grid file lacks.
        SearchError: if the plan has no job that can run, or asks for a rung its candidate has.
    """
    measured: dict[Candidate, CandidateHistory] = {}
    run: list[tuple[Candidate, int]] = []
    seconds, current = 0.0, None
    while not isinstance(jobs := plan.jobs(_ordered(measured)), Finished):
        job = _next(jobs, current, measured)
        if job is None:
            raise SearchError("the search waits for jobs that no worker runs")
        current, rung = job
        before = measured.get(current, CandidateHistory())
        # Trials are numbered in their order: of equal scores, the first measured is the answer.
        after = CandidateHistory(
            (*before.measurements, grid.measurement(current, rung)), last_trial=len(run)
        )
        measured[current] = after
        seconds += after.seconds - before.seconds
        run.append((current, rung))
    return Search(_ordered(measured), Simulated(jobs.reason, seconds, tuple(run)))


def _next(
    jobs: Sequence[Job], current: Candidate | None, measured: Mapping[Candidate, CandidateHistory]
) -> tuple[Candidate, int] | None:
    """The current candidate's next rung if the plan has one, else that of the first job.

    None if neither candidate has a rung above its highest one.
    """
    for candidate in (current, *(job.candidate for job in jobs[:1])):
        if candidate is None:
            continue
        top = measured[candidate].top if candidate in measured else 0
        wanted = [j.samples for j in jobs if j.candidate == candidate and j.samples > top]
        if wanted:
            return candidate, min(wanted)
    return None


def _ordered(measured: dict[Candidate, CandidateHistory]) -> History:
    # The order of a study's history, so that floating-point sums are bit-identical.
    return History({candidate: measured[candidate] for candidate in sorted(measured)})
