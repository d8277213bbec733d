"""A worker: runs trials of a study until its plan has nothing left to do.

Any number of workers may run on one study, and be started and killed at any time.
`study.optimize` with the same sampler, pruner and objective does the same in one process. A worker
also waits while other workers do all jobs that are certain to be needed, waits out outages, and
ends the trials that dead workers have left running.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from optuna import TrialPruned
from optuna.exceptions import UpdateFinishedTrialError
from optuna.study import StudyDirection
from optuna.trial import TrialState

from mordal_optuna.errors import (
    DataError,
    EvaluationError,
    FailedSearchError,
    InfrastructureError,
    LeaseLostError,
    ModelError,
    MordalError,
    ProcessEndedError,
    ProcessError,
    SearchError,
    TrainingError,
)
from mordal_optuna.processes.liveness import has_ended
from mordal_optuna.processes.outages import is_outage
from mordal_optuna.processes.patience import Patience
from mordal_optuna.progress import Silent
from mordal_optuna.search.attributes import DIED, FAILURE, INTERRUPTED, RUNGS, STOPPED_BECAUSE
from mordal_optuna.search.heartbeats import assignment_of
from mordal_optuna.search.history import HistoryReader
from mordal_optuna.search.jobs import Finished, Job, Wait
from mordal_optuna.search.plan import next_job
from mordal_optuna.search.sampler import CkaClusterSampler
from mordal_optuna.search.trials import set_trial_attribute
from mordal_optuna.study.failures import common_failure, newest_failure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

    from mordal_optuna.pool import Candidate
    from mordal_optuna.progress import Progress
    from mordal_optuna.search.plan import Plan
    from mordal_optuna.study.claims import ClaimStore
    from mordal_optuna.study.objective import Objective
    from mordal_optuna.study.task_studies import TaskStudies

T = TypeVar("T")

POLL_SECONDS = 1.0
# Errors that fail a candidate: the trial stores them and the search continues with other pairs.
# Data errors are among them, since data that no pair can use are refused before the first trial.
FAILURES = (ModelError, DataError, TrainingError, EvaluationError)


class Describe(Protocol):
    """Gives further user attributes of a trial that is about to end."""

    def __call__(
        self, number: int, state: TrialState, trials: Sequence[FrozenTrial] | None
    ) -> Mapping[str, Any]:
        """The attributes.

        Args:
            number: number of the trial.
            state: state in which it will end.
            trials: all trials of the study by number, read after the trial's last change; None if
                they were not read since.
        """
        ...


class Worker:
    """Runs trials until the plan is finished."""

    def __init__(
        self,
        study: Study,
        plan: Plan,
        objective: Objective,
        claims: ClaimStore,
        *,
        patience_seconds: float,
        poll_seconds: float = POLL_SECONDS,
        progress: Progress | None = None,
        task_studies: TaskStudies | None = None,
        does: Callable[[str], None] = lambda _: None,
        describe: Describe | None = None,
        published: Callable[[], None] | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Set up a worker.

        Args:
            study: study with a `CkaClusterSampler` and a `LogLinearHalvingPruner` of the plan.
            plan: plan that decides which jobs are needed.
            objective: objective with the same claims.
            claims: claims shared by all workers of the study.
            patience_seconds: seconds, at least 0, after which a running trial without a claim is
                ended.
            poll_seconds: seconds, at least 0, between two checks while there is nothing to do.
            progress: receives notes about failures and outages.
            task_studies: studies of the study's tasks, which the worker fills; None if there is
                one task.
            does: function that is told what the worker does.
            describe: gives further user attributes of a trial that is about to end.
            published: called after each trial; shows the result so far, as in a dashboard.
            sleep: function that waits for a number of seconds.
            clock: function that gives a monotonic time in seconds.

        Raises:
            SearchError: if a number of seconds is below 0.
        """
        for name, seconds in (
            ("patience_seconds", patience_seconds),
            ("poll_seconds", poll_seconds),
        ):
            if not seconds >= 0:
                raise SearchError(f"{name}: got {seconds}; it must be at least 0")
        self._study = study
        self._plan = plan
        self._objective = objective
        self._claims = claims
        self._patience = patience_seconds
        self._poll = poll_seconds
        self._sleep = sleep
        self._clock = clock
        self._progress = progress or Silent()
        self._task_studies = task_studies
        self._does = does
        self._describe = describe
        self._published = published
        # For outages inside trials; an outage of the storage is waited out where it occurs.
        self._trial_patience = Patience(sleep, self._progress)
        self._reader = HistoryReader(plan)
        self._unclaimed: dict[int, float] = {}
        # Trials as read by the trial that has ended last; serve once, for the next job.
        self._kept: Sequence[FrozenTrial] | None = None

    def run(self) -> None:
        """Work until nothing is left to do.

        Outages are waited out, with growing pauses.

        Raises:
            LastingOutageError: if an outage lasts too long.
            FailedSearchError: if no candidate can be trained, or candidates fail one after the
                other for a similar reason.
            MordalError: for any error other than the failure of a candidate.
        """
        while True:
            job = self._retried(self._next_job)
            if isinstance(job, Finished):
                self._retried(partial(self._finish, job))
                return
            if isinstance(job, Wait):
                self._does("waiting")
                self._sleep(self._poll)
            else:
                self.run_trial()

    def run_trial(self) -> None:
        """Ask for a trial, run it and tell its outcome.

        Raises:
            MordalError: for any error other than the failure of the trial's candidate.
        """
        trial = self._retried(self._study.ask)
        value, state = None, TrialState.FAIL
        attributes: dict[str, Any] = {}
        failure: InfrastructureError | None = None
        try:
            value, state = self._objective(trial), TrialState.COMPLETE
        except TrialPruned:
            state = TrialState.PRUNED
        except FAILURES as error:
            attributes = {FAILURE: str(error)}
            self._progress.note(f"a candidate failed: {error}")
        except (LeaseLostError, UpdateFinishedTrialError):
            pass  # another worker took this one for dead and has taken over
        except InfrastructureError as error:
            failure, attributes = error, {INTERRUPTED: str(error)}
        except BaseException as error:
            self._abandon(trial, error)
            raise
        finally:
            # What the sampler has claimed and the objective has not come to hold.
            self._claims.give_back(trial.number)
        self._retried(partial(self._end, trial, value, state, attributes))
        if self._task_studies:
            self._retried(self._task_studies.update)
        if self._published:
            self._retried(self._published)
        self._after_trial(trial, failure)

    def _next_job(self) -> Job | Wait | Finished:
        """End abandoned trials and return the plan's next job.

        The last trial has read the study before it ended. A job that was certain then is certain
        now, and the sampler finds out whether another worker has begun it since; only where that
        reading shows no job, the study is read again.
        """
        kept, self._kept = self._kept, None
        job = self._job_in(kept) if kept else Wait()
        return job if isinstance(job, Job) else self._job_in(self._trials())

    def _job_in(self, trials: Sequence[FrozenTrial]) -> Job | Wait | Finished:
        """The next job by a reading of the trials, which the sampler may choose from as well."""
        ended, claimed = self._end_abandoned(trials)
        if ended:
            trials = self._trials()
        minimize = self._study.direction == StudyDirection.MINIMIZE
        history = self._reader.read(trials, minimize=minimize)
        job = next_job(self._plan, history)
        if not isinstance(job, Job):
            return job
        common = common_failure(trials)
        if common:
            names = ", ".join(map(str, common.candidates))
            raise FailedSearchError(
                f"{len(common.candidates)} candidates failed one after the other for a similar "
                f"reason: {names}",
                common.reason,
            )
        if isinstance(self._study.sampler, CkaClusterSampler):
            self._study.sampler.shared.offer(history, claimed)
        return job

    def _finish(self, job: Finished) -> None:
        """Store why the search has ended.

        Raises:
            FailedSearchError: if no candidate could be trained; the search has not ended then.
        """
        if self._task_studies:
            self._task_studies.complete()
        if not job.failed:
            self._study.set_user_attr(STOPPED_BECAUSE, job.reason)
            return
        newest = newest_failure(self._trials())
        reason = f"last {newest[0]}: {newest[1]}" if newest else "no reason was stored"
        raise FailedSearchError(job.reason, reason)

    def _trials(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def _retried(self, work: Callable[[], T]) -> T:
        """Do something with the storage; retried, with pauses, while the storage is out."""
        return Patience(self._sleep, self._progress).through(work)

    def _end(
        self, trial: Trial, value: float | None, state: TrialState, attributes: Mapping[str, Any]
    ) -> None:
        """Store the attributes that the objective could not store in an outage; tell the outcome.

        Another worker may have ended the trial, if it took this worker for dead.
        """
        try:
            for key, attribute in attributes.items():
                if key not in trial.user_attrs:
                    trial.set_user_attr(key, attribute)
            # A trial that fails has stored its reason since its last reading.
            read = None if state == TrialState.FAIL else self._objective.last_reading()
            described = self._describe(trial.number, state, read) if self._describe else {}
            for key, attribute in described.items():
                trial.set_user_attr(key, attribute)
            ended = self._study.tell(trial, value, state=state, skip_if_finished=True)
        except UpdateFinishedTrialError:
            return  # as in `_interrupt`
        if read and ended.number < len(read):
            self._kept = [*read[: ended.number], ended, *read[ended.number + 1 :]]

    def _after_trial(self, trial: Trial, failure: InfrastructureError | None) -> None:
        """Wait after a trial that met an outage; a score or a failure resets the pauses."""
        if RUNGS in trial.user_attrs or FAILURE in trial.user_attrs:
            self._trial_patience.reset()
        if failure is None:
            return
        # If the storage was out, the objective could not release its claim.
        self._retried(partial(self._release_claim, trial.number))
        self._trial_patience.wait(failure)

    def _release_claim(self, number: int) -> None:
        for candidate, trial in self._claims.claimed().items():
            if trial == number:
                self._claims.release(candidate)

    def _abandon(self, trial: Trial, error: BaseException) -> None:
        """End the trial of a worker that stops; only a program error counts against the candidate.

        In an outage the trial is left to other workers, which end it as abandoned.
        """
        expected = isinstance(error, MordalError) and (
            not isinstance(error, ProcessError) or isinstance(error, ProcessEndedError)
        )
        program_error = isinstance(error, Exception) and not expected
        reason = str(error) or type(error).__name__
        attributes: dict[str, Any] = {} if program_error else {INTERRUPTED: reason}
        if isinstance(error, ProcessEndedError) and error.rank is None:
            attributes[DIED] = True  # another rank, as if its own process had died
        try:
            self._end(trial, None, TrialState.FAIL, attributes)
        except Exception as failure:
            if not is_outage(failure):
                raise

    def end_abandoned_trials(self) -> None:
        """End the trials that dead workers have left running; their scores stay."""
        self._end_abandoned(self._trials())

    def _end_abandoned(
        self, trials: Sequence[FrozenTrial]
    ) -> tuple[bool, Mapping[Candidate, int]]:
        """End abandoned trials.

        Args:
            trials: all trials, read before the claims are read, so that a trial that begins in
                between is not taken for abandoned.

        Returns:
            Whether there were any; and the trial number of each claimed candidate.
        """
        abandoned, held = self._claims.sweep()
        for claim in abandoned:
            reason = f"its worker {claim.owner} has ended or its claim has expired"
            self._interrupt(claim.trial, reason, died=True)
        ended = {claim.trial for claim in abandoned}
        running = [t for t in trials if t.state == TrialState.RUNNING and t.number not in ended]
        claimed = set(held.values())
        # A worker may die between choosing a candidate and claiming it. Unless its process is
        # known to have ended, such a trial is given up after a time on this worker's clock.
        now = self._clock()
        unclaimed = [t for t in running if t.number not in claimed]
        self._unclaimed = {t.number: self._unclaimed.get(t.number, now) for t in unclaimed}
        for trial in unclaimed:
            assignment = assignment_of(trial)
            if assignment and has_ended(assignment.owner):
                self._interrupt(trial.number, f"its worker {assignment.owner} has ended")
            elif now - self._unclaimed[trial.number] >= self._patience:
                self._interrupt(trial.number, "no worker has claimed it")
            else:
                continue
            ended.add(trial.number)
        return bool(ended), held

    def _interrupt(self, number: int, reason: str, *, died: bool = False) -> None:
        """End an abandoned trial, unless another worker has ended it."""
        try:
            if died:
                set_trial_attribute(self._study, number, DIED, value=True)
            set_trial_attribute(self._study, number, INTERRUPTED, reason)
            self._study.tell(number, state=TrialState.FAIL, skip_if_finished=True)
        except UpdateFinishedTrialError:
            return  # another worker ended it after `tell` had read its state
