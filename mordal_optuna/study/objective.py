"""The Optuna objective: report a candidate's earlier scores, then train it on and score it."""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from optuna import TrialPruned
from optuna.exceptions import UpdateFinishedTrialError
from optuna.study import Study, StudyDirection

from mordal_optuna.errors import (
    InputsChangedError,
    LeaseLostError,
    MordalError,
    ProcessEndedError,
)
from mordal_optuna.processes.outages import described, is_outage, outage
from mordal_optuna.processes.patience import Patience
from mordal_optuna.progress import Silent
from mordal_optuna.search.attributes import (
    CONTINUES,
    FAILURE,
    INTERRUPTED,
    LOST_SECONDS,
    NAME,
    RUNGS,
    STOOD_BACK,
    answers_attribute,
)
from mordal_optuna.search.curves import Measurement
from mordal_optuna.search.history import HistoryReader
from mordal_optuna.search.jobs import Job
from mordal_optuna.search.plan import next_rung, wanted_job
from mordal_optuna.search.pruner import LogLinearHalvingPruner
from mordal_optuna.search.sampler import CkaClusterSampler, study_history
from mordal_optuna.search.space import suggest_pair
from mordal_optuna.search.tasks import PartialMeasurement, completed
from mordal_optuna.search.trials import set_system_attribute
from mordal_optuna.study.claims import LocalClaims

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from optuna import Trial
    from optuna.trial import FrozenTrial

    from mordal_optuna.pool import Candidate
    from mordal_optuna.progress import Progress
    from mordal_optuna.search.history import CandidateHistory, History
    from mordal_optuna.search.plan import Plan
    from mordal_optuna.study.claims import Claims, HeldClaim

T = TypeVar("T")

# Wait before a trial ends because another worker holds its pair; bounds the rate of such trials.
STAND_BACK_SECONDS = 1.0


# The pair that is trained has no part in these.
_NOBODYS_FAULT = (
    InputsChangedError,
    LeaseLostError,
    ProcessEndedError,
    KeyboardInterrupt,
    SystemExit,
)


class _StoodBack(TrialPruned):
    """Another worker holds the trial's pair."""


class Measure(Protocol):
    """Trains a candidate up to a rung and scores it there."""

    def __call__(self, candidate: Candidate, samples: int) -> Measurement:
        """Train and score a candidate.

        Args:
            candidate: pair to train.
            samples: number of alignment samples at the rung.

        Raises:
            MordalError: if the pair cannot be trained or scored; the trial then fails with this
                reason.
        """
        ...


class _LastReading(threading.local):
    """Trials as one thread has read them last."""

    trials: Sequence[FrozenTrial] | None = None


class MeasureTasks(Protocol):
    """The same in a study of several tasks, of which a rung may be scored on some."""

    def __call__(
        self, candidate: Candidate, samples: int, tasks: Sequence[str] = ()
    ) -> Measurement | PartialMeasurement:
        """Train and score a candidate.

        Args:
            candidate: pair to train.
            samples: number of alignment samples at the rung.
            tasks: names of the tasks to score; empty scores all.

        Raises:
            MordalError: if the pair cannot be trained or scored.
        """
        ...


class Objective:
    """An Optuna objective over pairs, for any sampler and pruner.

    Each trial first reports the candidate's earlier scores, at no cost, so that every trial, and
    the dashboard, has the candidate's whole curve.
    """

    def __init__(
        self,
        plan: Plan,
        measure: Measure | MeasureTasks,
        *,
        claims: Claims | None = None,
        progress: Progress | None = None,
        scored: Callable[[Candidate, History], None] | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Set up an objective.

        Args:
            plan: plan that gives the rungs and decides when a candidate needs no further training.
            measure: function that trains and scores a candidate; a `MeasureTasks` if the plan asks
                for single tasks.
            claims: claims on candidates; `LocalClaims`, for one process, by default.
            progress: receives a note when a score waits for a storage that is out.
            scored: called after each new score is stored, with the candidate and the history that
                has the score, such as to tell trackers of estimates; None for nobody.
            sleep: function that waits for a number of seconds, used if another worker holds the
                proposed pair, and in an outage of the storage.
            clock: function that gives the time in seconds, used for the duration of a failed
                measurement.
        """
        self._plan = plan
        self._measure = measure
        self._claims = claims or LocalClaims()
        self._progress = progress or Silent()
        self._scored = scored
        self._sleep = sleep
        self._clock = clock
        self._reader = HistoryReader(plan)
        self._last = _LastReading()

    def __call__(self, trial: Trial) -> float:
        """Run one trial.

        If the trial ends without a score, it stores why: `mordal:failure` for a failure of the
        pair, `mordal:interrupted` for an outage or an interruption.

        Returns:
            The score at the highest rung that the plan asks for (see `Plan.answer`), or 1 minus
            the score if the study minimises. The value is not an estimate: estimates change with
            every score of the pool, so the study's best trial would not stay the best pair.

        Raises:
            TrialPruned: if the candidate is stopped below that rung; it may be promoted later.
            InfrastructureError: if storage, disk, network or device failed.
            MordalError: if the candidate could not be trained or scored.
        """
        steps = self.steps(trial)
        try:
            job = next(steps)
            while True:
                job = steps.send(self._timed(trial, job))
        except StopIteration as end:
            return float(end.value)
        except _StoodBack:
            # A sampler that ignores running trials would propose the pair again at once.
            self._sleep(STAND_BACK_SECONDS)
            raise
        except (TrialPruned, UpdateFinishedTrialError):
            raise
        except _NOBODYS_FAULT as error:
            _store(trial, INTERRUPTED, str(error) or type(error).__name__)
            raise
        except Exception as error:
            if is_outage(error):
                failure = outage(error)
                _store(trial, INTERRUPTED, str(failure))
                raise failure from None  # the cause's text may contain a password
            reason = str(error) if isinstance(error, MordalError) else described(error)
            _store(trial, FAILURE, reason)
            raise
        finally:
            _despite_outage(steps.close)

    def _timed(self, trial: Trial, job: Job) -> Measurement | PartialMeasurement:
        """Measure; if that fails, store how long it took."""
        begun = self._clock()
        try:
            return measured(self._measure, job)
        except BaseException:
            _store(trial, LOST_SECONDS, self._clock() - begun)
            raise

    def steps(self, trial: Trial) -> Generator[Job, Measurement | PartialMeasurement, float]:
        """Run one trial whose jobs are measured by the caller.

        Args:
            trial: running trial.

        Yields:
            Jobs; the caller sends back their measurements.

        Returns:
            The trial's value, as in `__call__`.
        """
        self._last.trials = None
        candidate = suggest_pair(trial, self._plan)
        trial.set_user_attr(NAME, str(candidate))
        with self._claims.hold(candidate, trial.number) as claim:
            # Read after the claim, so that all reports of the previous holder are included.
            history = self._under_claim(trial)
            record = history.of(candidate)
            self._repeat(trial, record)
            if claim is None:
                trial.set_user_attr(STOOD_BACK, True)
                raise _StoodBack("another worker trains it")
            first = top = record.top
            while True:
                wanted = wanted_job(self._plan, history, candidate, top)
                # A proposed candidate is trained at least one rung further. Otherwise a foreign
                # pruner could stop it at its present rung each time it is proposed.
                may_stop = top > first or (top and not wanted)
                if may_stop and self._is_stopped(trial, history, candidate, top):
                    break
                samples = wanted.samples if wanted else next_rung(self._plan, top)
                if samples is None:
                    break
                tasks = wanted.tasks if wanted else ()
                scored = yield Job(candidate, samples, "trial", tasks)
                before = history.of(candidate).partial_at(samples)
                whole = completed(scored, before, self._plan.tasks) if tasks else scored
                self._waiting(partial(self._keep, trial, whole, claim))
                top = samples
                history = self._waiting(partial(self._history, trial))
                if self._scored:
                    self._scored(candidate, history)
        return self._end(trial, candidate, history)

    def _waiting(self, work: Callable[[], T]) -> T:
        """Do something with the storage, and wait while it is out: a rung may have taken hours."""
        return Patience(self._sleep, self._progress).through(work)

    def _keep(
        self, trial: Trial, measurement: Measurement | PartialMeasurement, claim: HeldClaim
    ) -> None:
        """Store a score, unless another worker has claimed the pair since."""
        claim.check()
        self._report(trial, measurement)

    def last_reading(self) -> Sequence[FrozenTrial] | None:
        """The study's trials as the newest trial of this thread read them after its last score.

        Returns:
            All trials by number, that one among them, still running; None if it has no score.
        """
        return self._last.trials

    def _history(self, trial: Trial) -> History:
        """The history after a score."""
        # Called on the class for the reason given in `study_history`.
        self._last.trials = trials = Study.get_trials(trial.study, deepcopy=False)
        minimize = trial.study.direction == StudyDirection.MINIMIZE
        return self._reader.read(trials, minimize=minimize)

    def _under_claim(self, trial: Trial) -> History:
        """The history as read under the claim; our sampler may have read it already."""
        sampler, number = trial.study.sampler, trial.number
        kept = sampler.shared.take_kept(number) if isinstance(sampler, CkaClusterSampler) else None
        return kept or study_history(trial.study, exclude=number, reader=self._reader)

    def _is_stopped(
        self, trial: Trial, history: History, candidate: Candidate, samples: int
    ) -> bool:
        """Ask the study's pruner; ours takes the history, so that it is not read again."""
        pruner = trial.study.pruner
        if isinstance(pruner, LogLinearHalvingPruner):
            return pruner.stops(trial.study, history, candidate, samples)
        return trial.should_prune()

    def _repeat(self, trial: Trial, record: CandidateHistory) -> None:
        """Report the candidate's earlier scores."""
        if not record.rungs:
            return
        trial.set_user_attr(CONTINUES, record.last_trial)
        for measurement in record.measurements:
            trial.report(self._objective_value(trial, measurement.score), step=measurement.samples)

    def _report(self, trial: Trial, measurement: Measurement | PartialMeasurement) -> None:
        own = {"": measurement} if isinstance(measurement, Measurement) else {}
        for task, scored in {**own, **measurement.by_task}.items():
            if scored.answers:
                key = answers_attribute(measurement.samples, task)
                set_system_attribute(trial.study, trial, key, scored.answers)
        details = dict(trial.user_attrs.get(RUNGS, {}))
        details[str(measurement.samples)] = measurement.to_json()
        # Details before the report: if the process is killed in between, no score lacks its
        # standard error.
        trial.set_user_attr(RUNGS, details)
        if isinstance(measurement, PartialMeasurement):
            return  # no score of all tasks, so nothing that Optuna could compare
        trial.report(self._objective_value(trial, measurement.score), step=measurement.samples)

    def _objective_value(self, trial: Trial, score: float) -> float:
        """The score, or the error 1 - score if the study minimises."""
        return 1.0 - score if trial.study.direction == StudyDirection.MINIMIZE else score

    def _end(self, trial: Trial, candidate: Candidate, history: History) -> float:
        value = self._plan.answer(history, candidate)
        if value is None:
            top = history.of(candidate).top
            raise TrialPruned(f"stopped at {top} samples; may be promoted later")
        return self._objective_value(trial, value)


def measured(measure: Measure | MeasureTasks, job: Job) -> Measurement | PartialMeasurement:
    """The result of a job; only a function of several tasks is told which to score.

    Args:
        measure: function that trains and scores a candidate.
        job: the job.
    """
    if job.tasks:
        return cast("MeasureTasks", measure)(job.candidate, job.samples, job.tasks)
    return measure(job.candidate, job.samples)


def _store(trial: Trial, key: str, value: Any) -> None:
    _despite_outage(lambda: trial.set_user_attr(key, value))


def _despite_outage(work: Callable[[], object]) -> None:
    """Do something while another error propagates, which an outage must not replace.

    Outages are ignored: a claim that cannot be released expires, and the worker stores missing
    attributes again. A trial that another worker has ended is ignored, too.
    """
    try:
        work()
    except UpdateFinishedTrialError:
        return
    except Exception as error:
        if not is_outage(error):
            raise
