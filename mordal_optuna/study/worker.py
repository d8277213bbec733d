"""A worker: runs trials of a study until its plan has nothing left to do.

Any number of workers may run on one study, started and killed at any time. `study.optimize` with
the same sampler, pruner and objective does the same for one process; a worker also waits while
others do all that is certain to be needed, waits out outages, and clears away what dead workers
have left.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, TypeVar

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
    ProcessError,
    TrainingError,
)
from mordal_optuna.processes.liveness import has_ended
from mordal_optuna.processes.outages import is_outage
from mordal_optuna.processes.patience import Patience
from mordal_optuna.progress import Silent
from mordal_optuna.search.attributes import FAILURE, INTERRUPTED, RUNGS, STOPPED_BECAUSE
from mordal_optuna.search.heartbeats import assignment_of
from mordal_optuna.search.history import HistoryReader
from mordal_optuna.search.jobs import Finished, Job, Wait
from mordal_optuna.search.plan import next_job
from mordal_optuna.search.trials import set_trial_attribute
from mordal_optuna.study.failures import like_failures, newest_failure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

    from mordal_optuna.progress import Progress
    from mordal_optuna.search.plan import Plan
    from mordal_optuna.study.claims import ClaimStore
    from mordal_optuna.study.objective import Objective

T = TypeVar("T")

POLL_SECONDS = 1.0
# Failures of a candidate, stored with its trial; the search goes on with others. The data were
# checked before the first trial: what is found wrong with them now is between them and the pair.
FAILURES = (ModelError, DataError, TrainingError, EvaluationError)


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
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Work on a study.

        Args:
            study: with a `CkaClusterSampler` and a `LogLinearHalvingPruner` of the same plan.
            plan: says what is to be done.
            objective: with the same claims.
            claims: shared by all workers of the study.
            patience_seconds: a running trial without a claim is given up after so long.
            poll_seconds: between two looks while there is nothing to do.
            progress: is told of failures and of outages that are waited for.
            sleep: waits.
            clock: seconds, never going back.
        """
        self._study = study
        self._plan = plan
        self._objective = objective
        self._claims = claims
        self._patience = patience_seconds
        self._poll = poll_seconds
        self._sleep = sleep
        self._clock = clock
        self._progress = progress or Silent()
        # Of trials that met an outage of anything but the storage, which is waited for at once.
        self._waits = Patience(sleep, self._progress)
        self._reader = HistoryReader(plan)
        self._unclaimed: dict[int, float] = {}

    def run(self) -> None:
        """Work until nothing is left to do.

        Outages are waited out, with growing pauses.

        Raises:
            LastingOutageError: if one does not pass.
            FailedSearchError: if no candidate can be trained, or candidates fail one after the
                other for a like reason.
            MordalError: for anything else but a failure of one candidate.
        """
        while True:
            job = self._through(self._look)
            if isinstance(job, Finished):
                self._through(partial(self._finish, job))
                return
            if isinstance(job, Wait):
                self._sleep(self._poll)
            else:
                self.run_trial()

    def run_trial(self) -> None:
        """Ask for a trial, run it, tell how it ended.

        Raises:
            MordalError: for anything but a failure of its candidate.
        """
        trial = self._through(self._study.ask)
        value, state, marks = None, TrialState.FAIL, {}
        found: InfrastructureError | None = None
        try:
            value, state = self._objective(trial), TrialState.COMPLETE
        except TrialPruned:
            state = TrialState.PRUNED
        except FAILURES as error:
            marks = {FAILURE: str(error)}
            self._progress.note(f"a candidate failed: {error}")
        except (LeaseLostError, UpdateFinishedTrialError):
            pass  # others thought this worker dead, and went on
        except InfrastructureError as error:
            found, marks = error, {INTERRUPTED: str(error)}
        except BaseException as error:
            self._abandon(trial, error)
            raise
        self._through(partial(self._end, trial, value, state, marks))
        self._count(trial, found)

    def _look(self) -> Job | Wait | Finished:
        """Clear away what the dead have left, and find out what is to be done."""
        trials = self._trials()
        if self._clear_away(trials):
            trials = self._trials()
        minimize = self._study.direction == StudyDirection.MINIMIZE
        job = next_job(self._plan, self._reader.read(trials, minimize=minimize))
        alike = like_failures(trials) if isinstance(job, Job) else None
        if alike:
            names = ", ".join(map(str, alike.candidates))
            raise FailedSearchError(
                f"{len(alike.candidates)} candidates failed one after the other for a like "
                f"reason: {names}",
                alike.reason,
            )
        return job

    def _finish(self, job: Finished) -> None:
        """Store why the search has ended; where nothing could be trained, it has not."""
        if not job.failed:
            self._study.set_user_attr(STOPPED_BECAUSE, job.reason)
            return
        newest = newest_failure(self._trials())
        told = f"last {newest[0]}: {newest[1]}" if newest else "no reason was stored"
        raise FailedSearchError(job.reason, told)

    def _trials(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def _through(self, work: Callable[[], T]) -> T:
        """Use the storage, and wait while it is out."""
        return Patience(self._sleep, self._progress).through(work)

    def _end(
        self, trial: Trial, value: float | None, state: TrialState, marks: Mapping[str, str]
    ) -> None:
        """Store what an outage kept the objective from storing, and tell how the trial ended.

        Another worker may have ended it, if it thought this one dead.
        """
        try:
            for key, mark in marks.items():
                if key not in trial.user_attrs:
                    trial.set_user_attr(key, mark)
            self._study.tell(trial, value, state=state, skip_if_finished=True)
        except UpdateFinishedTrialError:
            return  # as in `_clear`

    def _count(self, trial: Trial, found: InfrastructureError | None) -> None:
        """Wait after a trial that met an outage; what a trial has measured ends a row of them."""
        if RUNGS in trial.user_attrs or FAILURE in trial.user_attrs:
            self._waits.reset()
        if found is None:
            return
        # Nor could the objective give its claim back, where the storage was out.
        self._through(partial(self._let_go, trial.number))
        self._waits.wait(found)

    def _let_go(self, number: int) -> None:
        for candidate, trial in self._claims.claimed().items():
            if trial == number:
                self._claims.release(candidate)

    def _abandon(self, trial: Trial, error: BaseException) -> None:
        """End the trial of a worker that stops; only a fault of the program counts against it.

        In an outage it is left to other workers, which clear it away.
        """
        own = isinstance(error, MordalError) and not isinstance(error, ProcessError)
        fault = isinstance(error, Exception) and not own
        reason = str(error) or type(error).__name__
        try:
            self._end(trial, None, TrialState.FAIL, {} if fault else {INTERRUPTED: reason})
        except Exception as failure:
            if not is_outage(failure):
                raise

    def clear_away(self) -> None:
        """End the trials that dead workers have left running; their scores stay."""
        self._clear_away(self._trials())

    def _clear_away(self, trials: Sequence[FrozenTrial]) -> bool:
        """The same; whether there were any.

        Args:
            trials: read before the claims are: a trial that begins in between is not seen, and not
                taken for dead.
        """
        dead = self._claims.bury()
        for claim in dead:
            reason = f"its worker {claim.owner} has ended or let its claim run out"
            self._clear(claim.trial, reason)
        ended = {claim.trial for claim in dead}
        left = [t for t in trials if t.state == TrialState.RUNNING and t.number not in ended]
        claimed = set(self._claims.claimed().values())
        # A worker can die between choosing a candidate and claiming it. Where its process is
        # not known to have ended, no clock but this worker's own says how long ago that was.
        now = self._clock()
        without = [t for t in left if t.number not in claimed]
        self._unclaimed = {t.number: self._unclaimed.get(t.number, now) for t in without}
        for trial in without:
            assignment = assignment_of(trial)
            if assignment and has_ended(assignment.owner):
                self._clear(trial.number, f"its worker {assignment.owner} has ended")
            elif now - self._unclaimed[trial.number] >= self._patience:
                self._clear(trial.number, "no worker has claimed it")
            else:
                continue
            ended.add(trial.number)
        return bool(ended)

    def _clear(self, number: int, reason: str) -> None:
        """End a trial that is nobody's any more, unless another worker has ended it."""
        try:
            set_trial_attribute(self._study, number, INTERRUPTED, reason)
            self._study.tell(number, state=TrialState.FAIL, skip_if_finished=True)
        except UpdateFinishedTrialError:
            return  # `tell` looks first and then sets: another worker came in between
