"""Simulate several workers of a study on a clock that advances by the cost of each job.

A budget is kept by what the running jobs will really cost, which a grid file knows in advance. So
a search spends as much with several workers as with one: another trial begins only while the jobs
that have ended, and those that run, cost less than the budget together.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from optuna import TrialPruned
from optuna.trial import TrialState

from mordal_optuna.errors import SearchError
from mordal_optuna.search.attributes import STOOD_BACK
from mordal_optuna.search.history import HistoryReader
from mordal_optuna.search.jobs import Finished, Wait
from mordal_optuna.search.plan import next_job
from mordal_optuna.search.sampler import study_history
from mordal_optuna.study.objective import measured

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from optuna import Study, Trial
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.curves import Measurement
    from mordal_optuna.search.jobs import Job
    from mordal_optuna.search.plan import Plan
    from mordal_optuna.search.tasks import PartialMeasurement
    from mordal_optuna.study.costs import Costs
    from mordal_optuna.study.objective import Measure, MeasureTasks, Objective


class Steering(Protocol):
    """Decides whether another trial should start."""

    def __call__(self, study: Study) -> Job | Wait | Finished:
        """`Job` to start a trial, `Wait` to wait for running ones, `Finished` to end."""
        ...


class PlanSteering:
    """Starts trials as a plan asks for them."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._reader = HistoryReader(plan)

    def __call__(self, study: Study) -> Job | Wait | Finished:
        """The plan's next job."""
        return next_job(self._plan, study_history(study, reader=self._reader))


@dataclass(frozen=True)
class SetUp:
    """A search that is ready to be simulated.

    Attributes:
        plan: plan of the search.
        sampler: sampler that proposes pairs.
        pruner: pruner that stops trials.
        steering: function that says whether another trial should start.
        before: device-seconds spent before the first trial, by part.
        before_projected: projected costs before the first trial; None if they are not known.
    """

    plan: Plan
    sampler: BaseSampler
    pruner: BasePruner
    steering: Steering
    before: Costs
    before_projected: Costs | None


@dataclass(frozen=True)
class Limit:
    """A budget that no other trial begins beyond.

    Attributes:
        seconds: device-seconds that the trials may spend.
        further: device-seconds that a trial may cost beyond the job that it runs.
    """

    seconds: float
    further: Callable[[Job], float]


@dataclass(frozen=True)
class Simulated:
    """The outcome of a simulated search.

    Attributes:
        reason: reason why the search ended.
        seconds: simulated seconds from the start to the last score.
        jobs: candidate and samples of each job, in the order in which they ended.
    """

    reason: str
    seconds: float
    jobs: tuple[tuple[Candidate, int], ...]


@dataclass
class _Running:
    trial: Trial
    steps: Generator[Job, Measurement | PartialMeasurement, float]
    job: Job
    measurement: Measurement | PartialMeasurement


class Simulation:
    """Runs a study with several workers on a simulated clock."""

    def __init__(
        self,
        study: Study,
        objective: Objective,
        measure: Measure | MeasureTasks,
        steering: Steering,
        *,
        workers: int = 1,
        limit: Limit | None = None,
    ) -> None:
        """Set up a simulation.

        Args:
            study: study in memory, with sampler and pruner.
            objective: objective whose `steps` are run; its own `measure` is not called.
            measure: function that looks up scores and their costs.
            steering: function that decides whether another trial should start.
            workers: number of workers, at least 1.
            limit: budget of the trials; None for none but the plan's own.

        Raises:
            SearchError: if there is no worker.
        """
        if workers < 1:
            raise SearchError(f"workers: got {workers}; it must be at least 1")
        self._study = study
        self._objective = objective
        self._measure = measure
        self._steering = steering
        self._limit = limit
        self._free = workers
        self._now = 0.0
        self._started = 0
        self._events: list[tuple[float, int, _Running]] = []
        self._spent: dict[Candidate, float] = {}
        self._evaluated = 0.0
        self._jobs: list[tuple[Candidate, int]] = []

    def run(self) -> Simulated:
        """Run until the search ends.

        Raises:
            SearchError: if the search waits although no job is running.
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
            raise SearchError("the search waits for a job although no job is running")
        return Simulated(action.reason, self._now, tuple(self._jobs))

    def _start_trials(self) -> Job | Wait | Finished | None:
        """Start a trial on each free worker while there is something to do."""
        action: Job | Wait | Finished | None = None
        while self._free and not self._is_spent():
            action = self._steering(self._study)
            if isinstance(action, Wait | Finished):
                break
            trial = self._study.ask()
            self._advance(trial, self._objective.steps(trial), None)
            if STOOD_BACK in trial.user_attrs:
                break  # a worker tries again once another job has ended
        return action

    def _is_spent(self) -> bool:
        """Whether the running trials will spend what is left of the budget."""
        if self._limit is None or not self._events:
            return False
        further = sum(self._limit.further(running.job) for _, _, running in self._events)
        # Both counts include the jobs that run.
        return sum(self._spent.values()) + self._evaluated + further >= self._limit.seconds

    def _advance(
        self,
        trial: Trial,
        steps: Generator[Job, Measurement | PartialMeasurement, float],
        measurement: Measurement | PartialMeasurement | None,
    ) -> None:
        """Advance a trial to its next job, or end it."""
        try:
            job = next(steps) if measurement is None else steps.send(measurement)
        except StopIteration as end:
            self._study.tell(trial, end.value)
        except TrialPruned:
            self._study.tell(trial, state=TrialState.PRUNED)
        else:
            result = measured(self._measure, job)
            before = self._spent.get(job.candidate, 0.0)
            self._spent[job.candidate] = result.train_seconds
            self._evaluated += result.eval_seconds
            self._free -= 1
            self._started += 1  # of jobs that end together, the one started first ends first
            ends = self._now + result.train_seconds - before + result.eval_seconds
            running = _Running(trial, steps, job, result)
            heapq.heappush(self._events, (ends, self._started, running))
