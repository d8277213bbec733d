"""One trial: repeat what is known of a candidate, then align it to the next rungs and score it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

from optuna import TrialPruned
from optuna.exceptions import UpdateFinishedTrialError
from optuna.study import StudyDirection

from mordal_optuna.errors import InputsChangedError, LeaseLostError, MordalError
from mordal_optuna.processes.outages import described, is_outage, outage
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
from mordal_optuna.search.history import HistoryReader, measurement_attributes
from mordal_optuna.search.jobs import Job
from mordal_optuna.search.plan import next_rung, wanted_rung
from mordal_optuna.search.pruner import LogLinearHalvingPruner
from mordal_optuna.search.sampler import study_history
from mordal_optuna.search.space import suggest_pair
from mordal_optuna.search.trials import set_system_attribute
from mordal_optuna.study.claims import LocalClaims

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from optuna import Trial

    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.curves import Measurement
    from mordal_optuna.search.history import CandidateHistory, History
    from mordal_optuna.search.plan import Plan
    from mordal_optuna.study.claims import Claims


# How long a trial stands back before it ends, so that they do not come by the thousand.
STAND_BACK_SECONDS = 1.0


class _StoodBack(TrialPruned):
    """The trial's pair is trained by another worker."""


class Measure(Protocol):
    """Whatever can train a candidate to a rung and score it there."""

    def __call__(self, candidate: Candidate, samples: int) -> Measurement:
        """Score a candidate after `samples` alignment samples.

        Raises:
            MordalError: if it cannot be trained or scored; the trial then fails with the reason.
        """
        ...


class Objective:
    """An Optuna objective over the pair, for any sampler and pruner.

    Earlier scores of the candidate are reported first, at no cost, so its curve is whole in
    every trial and in the dashboard.
    """

    def __init__(
        self,
        plan: Plan,
        measure: Measure,
        *,
        claims: Claims | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Measure candidates along a plan's rungs.

        Args:
            plan: gives the rungs, and says when a candidate is estimated finely enough.
            measure: trains and scores.
            claims: who may train what; `LocalClaims` (one process) by default.
            sleep: waits, where another worker trains the proposed pair.
            clock: seconds, for what a failed measurement took.
        """
        self._plan = plan
        self._measure = measure
        self._claims = claims or LocalClaims()
        self._sleep = sleep
        self._clock = clock
        self._reader = HistoryReader(plan)

    def __call__(self, trial: Trial) -> float:
        """Run one trial.

        What ends it without a score is stored with it: what counts against the pair as
        `mordal:failure`, an outage or an interruption as `mordal:interrupted`.

        Returns:
            The score at the highest rung that the plan asks for (see `Plan.answer`); 1 minus it
            where the study minimises. Estimates change with every score of the pool, so a study's
            best trial would not stay the best pair by them.

        Raises:
            TrialPruned: if the candidate is stopped below it; it may be promoted later.
            InfrastructureError: if storage, disk, network or device failed.
            MordalError: if it could not be trained or scored.
        """
        steps = self.steps(trial)
        try:
            job = next(steps)
            while True:
                job = steps.send(self._timed(trial, job))
        except StopIteration as end:
            return float(end.value)
        except _StoodBack:
            # Samplers that do not see what runs elsewhere propose it again and again.
            self._sleep(STAND_BACK_SECONDS)
            raise
        except (TrialPruned, UpdateFinishedTrialError):
            raise
        except (InputsChangedError, LeaseLostError, KeyboardInterrupt, SystemExit) as error:
            _store(trial, INTERRUPTED, str(error) or type(error).__name__)
            raise
        except Exception as error:
            if is_outage(error):
                found = outage(error)
                _store(trial, INTERRUPTED, str(found))
                raise found from None  # its cause's text can hold a password
            reason = str(error) if isinstance(error, MordalError) else described(error)
            _store(trial, FAILURE, reason)
            raise
        finally:
            _despite_outage(steps.close)

    def _timed(self, trial: Trial, job: Job) -> Measurement:
        """Measure; where that fails, store the time it took."""
        begun = self._clock()
        try:
            return self._measure(job.candidate, job.samples)
        except BaseException:
            _store(trial, LOST_SECONDS, self._clock() - begun)
            raise

    def steps(self, trial: Trial) -> Generator[Job, Measurement, float]:
        """The same, measured by whoever drives it: yields jobs, is sent their measurements."""
        candidate = suggest_pair(trial, self._plan)
        trial.set_user_attr(NAME, str(candidate))
        with self._claims.hold(candidate, trial.number) as held:
            # Read only now: what another worker has reported before it let go is in it.
            history = self._history(trial, exclude=trial.number)
            known = history.of(candidate)
            self._repeat(trial, known)
            if held is None:
                trial.set_user_attr(STOOD_BACK, True)
                raise _StoodBack("another worker trains it")
            first = top = known.top
            while True:
                wanted = wanted_rung(self._plan, history, candidate, top)
                # To be proposed is to be wanted one rung further: with another pruner a
                # candidate would otherwise be proposed and stopped where it stands for ever.
                may_stop = top > first or (top and not wanted)
                if may_stop and self._is_stopped(trial, history, candidate, top):
                    break
                samples = wanted or next_rung(self._plan, top)
                if samples is None:
                    break
                measurement = yield Job(candidate, samples, "trial")
                held.check()
                self._report(trial, measurement)
                top = samples
                history = self._history(trial)
        return self._end(trial, candidate, history)

    def _history(self, trial: Trial, exclude: int | None = None) -> History:
        return study_history(trial.study, exclude=exclude, reader=self._reader)

    def _is_stopped(
        self, trial: Trial, history: History, candidate: Candidate, samples: int
    ) -> bool:
        """What the study's pruner says; ours is told what is known, and need not read it again."""
        pruner = trial.study.pruner
        if isinstance(pruner, LogLinearHalvingPruner):
            return pruner.stops(trial.study, history, candidate, samples)
        return trial.should_prune()

    def _repeat(self, trial: Trial, known: CandidateHistory) -> None:
        if not known.measurements:
            return
        trial.set_user_attr(CONTINUES, known.last_trial)
        for measurement in known.measurements:
            trial.report(self._told(trial, measurement.score), step=measurement.samples)

    def _report(self, trial: Trial, measurement: Measurement) -> None:
        if measurement.answers:
            key = answers_attribute(measurement.samples)
            set_system_attribute(trial.study, trial, key, measurement.answers)
        details = dict(trial.user_attrs.get(RUNGS, {}))
        details[str(measurement.samples)] = measurement_attributes(measurement)
        # First the details, then the report: a process killed in between leaves no score that
        # lacks its noise.
        trial.set_user_attr(RUNGS, details)
        trial.report(self._told(trial, measurement.score), step=measurement.samples)

    def _told(self, trial: Trial, score: float) -> float:
        """What the study is told of a score: an error where it minimises."""
        return 1.0 - score if trial.study.direction == StudyDirection.MINIMIZE else score

    def _end(self, trial: Trial, candidate: Candidate, history: History) -> float:
        value = self._plan.answer(history, candidate)
        if value is None:
            top = history.of(candidate).top
            raise TrialPruned(f"stopped at {top} samples; may be promoted later")
        return self._told(trial, value)


def _store(trial: Trial, key: str, value: Any) -> None:
    _despite_outage(lambda: trial.set_user_attr(key, value))


def _despite_outage(work: Callable[[], object]) -> None:
    """Do something on the way out, while another error is raised that must not be replaced.

    An outage is passed over: a claim that cannot be given back runs out, and a worker stores once
    more what a trial lacks. So is a trial that another worker has ended.
    """
    try:
        work()
    except UpdateFinishedTrialError:
        return
    except Exception as error:
        if not is_outage(error):
            raise
