"""A simulated clock: workers that run a study's trials, each busy for as long as a job takes."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from optuna import TrialPruned
from optuna.trial import TrialState

from mordal_optuna.errors import SearchError
from mordal_optuna.search.history import HistoryReader
from mordal_optuna.search.jobs import Finished, Wait
from mordal_optuna.search.plan import next_job
from mordal_optuna.search.sampler import study_history

if TYPE_CHECKING:
    from collections.abc import Generator

    from optuna import Study, Trial

    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.curves import Measurement
    from mordal_optuna.search.jobs import Job
    from mordal_optuna.search.plan import Plan
    from mordal_optuna.study.objective import Measure, Objective


class Steering(Protocol):
    """Says whether another trial should be started."""

    def __call__(self, study: Study) -> Job | Wait | Finished:
        """A job: start a trial; wait for others; or the search is over."""
        ...


class PlanSteering:
    """As a plan asks for."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._reader = HistoryReader(plan)

    def __call__(self, study: Study) -> Job | Wait | Finished:
        """The plan's next job."""
        return next_job(self._plan, study_history(study, reader=self._reader))


@dataclass(frozen=True)
class Simulated:
    """How a simulated search went.

    Attributes:
        reason: why it ended.
        seconds: simulated seconds from its start to its last score.
        jobs: every candidate and rung that was run, in the order of their ends.
    """

    reason: str
    seconds: float
    jobs: tuple[tuple[Candidate, int], ...]


@dataclass
class _Running:
    trial: Trial
    steps: Generator[Job, Measurement, float]
    job: Job
    measurement: Measurement


class Simulation:
    """Runs a study with several workers on a simulated clock."""

    def __init__(
        self,
        study: Study,
        objective: Objective,
        measure: Measure,
        steering: Steering,
        *,
        workers: int = 1,
    ) -> None:
        """Set up a simulation.

        Args:
            study: in memory, with its sampler and pruner.
            objective: its `steps` are driven; it never measures itself.
            measure: looks scores and their costs up.
            steering: says whether another trial should be started.
            workers: how many work at the same time, at least 1.

        Raises:
            SearchError: if there is no worker.
        """
        if workers < 1:
            raise SearchError(f"{workers} workers were given; at least 1 is needed")
        self._study = study
        self._objective = objective
        self._measure = measure
        self._steering = steering
        self._free = workers
        self._now = 0.0
        self._started = 0
        self._events: list[tuple[float, int, _Running]] = []
        self._spent: dict[Candidate, float] = {}
        self._jobs: list[tuple[Candidate, int]] = []

    def run(self) -> Simulated:
        """Run to the end.

        Raises:
            SearchError: if the search waits although nothing is under way.
        """
        while True:
            action = self._start_trials()
            if not self._events:
                break
            self._now, _, running = heapq.heappop(self._events)
            self._jobs.append((running.job.candidate, running.job.samples))
            self._free += 1
            self._advance(running.trial, running.steps, running.measurement)
        if not isinstance(action, Finished):
            raise SearchError("the search waits for jobs that nobody runs")
        return Simulated(action.reason, self._now, tuple(self._jobs))

    def _start_trials(self) -> Job | Wait | Finished | None:
        """Give every free worker a trial, as long as there is something to do."""
        action: Job | Wait | Finished | None = None
        while self._free:
            action = self._steering(self._study)
            if isinstance(action, Wait | Finished):
                break
            trial = self._study.ask()
            self._advance(trial, self._objective.steps(trial), None)
        return action

    def _advance(
        self,
        trial: Trial,
        steps: Generator[Job, Measurement, float],
        measurement: Measurement | None,
    ) -> None:
        """Let a trial go on to its next job, or end it."""
        try:
            job = next(steps) if measurement is None else steps.send(measurement)
        except StopIteration as end:
            self._study.tell(trial, end.value)
        except TrialPruned:
            self._study.tell(trial, state=TrialState.PRUNED)
        else:
            found = self._measure(job.candidate, job.samples)
            before = self._spent.get(job.candidate, 0.0)
            self._spent[job.candidate] = found.train_seconds
            self._free -= 1
            self._started += 1  # of equal ends the job started first ends first
            ends = self._now + found.train_seconds - before + found.eval_seconds
            heapq.heappush(self._events, (ends, self._started, _Running(trial, steps, job, found)))
