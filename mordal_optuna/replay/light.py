"""A search without Optuna: the same plan asked on a plain history, a few times quicker.

Bootstraps run thousands of searches. A plan is a pure function of the history, so the order in
which one worker would run its trials is followed here on a dictionary. Stock samplers and pruners
need a study; they are replayed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mordal_optuna.errors import SearchError
from mordal_optuna.replay.simulate import Simulated
from mordal_optuna.search.history import CandidateHistory, History
from mordal_optuna.search.plan import Finished

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mordal_optuna.pool import Candidate
    from mordal_optuna.replay.grid import Grid
    from mordal_optuna.search.plan import Job, Plan


@dataclass(frozen=True)
class Search:
    """A search that has ended.

    Attributes:
        history: what it has measured.
        simulated: how it went.
    """

    history: History
    simulated: Simulated


def run_light(plan: Plan, grid: Grid) -> Search:
    """Run a plan against a grid with one worker.

    A proposed candidate goes on for as long as the plan wants it further up, as in a trial.

    Raises:
        GridError: if the search asks for what the file lacks.
        SearchError: if the plan waits, or wants a rung below what its candidate has.
    """
    known: dict[Candidate, CandidateHistory] = {}
    run: list[tuple[Candidate, int]] = []
    seconds, current = 0.0, None
    while not isinstance(jobs := plan.jobs(_ordered(known)), Finished):
        job = _next(jobs, current, known)
        if job is None:
            raise SearchError("the search waits for jobs that nobody runs")
        current, rung = job
        before = known.get(current, CandidateHistory())
        # In the order of trials: of equal scores the first to be measured is the answer.
        after = CandidateHistory(
            (*before.measurements, grid.measurement(current, rung)), last_trial=len(run)
        )
        known[current] = after
        seconds += after.seconds - before.seconds
        run.append((current, rung))
    return Search(_ordered(known), Simulated(jobs.reason, seconds, tuple(run)))


def _next(
    jobs: Sequence[Job], current: Candidate | None, known: Mapping[Candidate, CandidateHistory]
) -> tuple[Candidate, int] | None:
    """Further up with the current candidate if that is wanted, else up with the first job's."""
    for candidate in (current, *(job.candidate for job in jobs[:1])):
        if candidate is None:
            continue
        top = known[candidate].top if candidate in known else 0
        wanted = [j.samples for j in jobs if j.candidate == candidate and j.samples > top]
        if wanted:
            return candidate, min(wanted)
    return None


def _ordered(known: dict[Candidate, CandidateHistory]) -> History:
    # In the order in which a study's history lists them, so that sums agree to the last bit.
    return History({candidate: known[candidate] for candidate in sorted(known)})
