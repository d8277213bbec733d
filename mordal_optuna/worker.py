"""A worker: runs trials of a study until its plan has nothing left to do.

Any number of workers may run on one study, started and killed at any time. `study.optimize` with
the same sampler, pruner and objective does the same for one process; a worker also waits while
others do all that is certain to be needed, and clears away what dead workers have left.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from optuna import TrialPruned
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from mordal_optuna.errors import EvaluationError, LeaseLostError, ModelError, TrainingError
from mordal_optuna.liveness import has_ended
from mordal_optuna.search.history import INTERRUPTED, JOB, HistoryReader
from mordal_optuna.search.plan import Finished, Wait, next_job
from mordal_optuna.search.sampler import STOPPED_BECAUSE, study_history
from mordal_optuna.search.trials import set_trial_attribute

if TYPE_CHECKING:
    from collections.abc import Callable

    from optuna import Study, Trial

    from mordal_optuna.objective import Objective
    from mordal_optuna.search.plan import Plan
    from mordal_optuna.store import ClaimStore

POLL_SECONDS = 1.0
# Failures of a candidate, stored with its trial; the search goes on with others.
FAILURES = (ModelError, TrainingError, EvaluationError)


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
        self._reader = HistoryReader()
        self._unclaimed: dict[int, float] = {}

    def run(self) -> None:
        """Work until nothing is left to do.

        Raises:
            MordalError: for anything but a failure of one candidate.
        """
        while True:
            self.clear_away()
            job = next_job(self._plan, study_history(self._study, reader=self._reader))
            if isinstance(job, Finished):
                self._study.set_user_attr(STOPPED_BECAUSE, job.reason)
                return
            if isinstance(job, Wait):
                self._sleep(self._poll)
            else:
                self.run_trial()

    def run_trial(self) -> None:
        """Ask for a trial, run it, tell how it ended."""
        trial = self._study.ask()
        state, value = TrialState.FAIL, None
        try:
            value = self._objective(trial)
            state = TrialState.COMPLETE
        except TrialPruned:
            state = TrialState.PRUNED
        except (*FAILURES, LeaseLostError, UpdateFinishedTrialError):
            # The objective has stored why; or others thought this worker dead and went on.
            state = TrialState.FAIL
        finally:
            self._tell(trial, value, state)

    def _tell(self, trial: Trial, value: float | None, state: TrialState) -> None:
        """Tell how a trial ended, unless another worker has ended it and thought this one dead."""
        try:
            self._study.tell(trial, value, state=state, skip_if_finished=True)
        except UpdateFinishedTrialError:
            return  # as in `_clear`

    def clear_away(self) -> None:
        """End the trials that dead workers have left running; their scores stay."""
        for dead in self._claims.bury():
            self._clear(dead.trial, f"its worker {dead.owner} has ended or let its claim run out")
        # Trials before claims: one that begins in between is not seen, and not taken for dead.
        running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        claimed = set(self._claims.claimed().values())
        # A worker can die between choosing a candidate and claiming it. Where its process is
        # not known to have ended, no clock but this worker's own says how long ago that was.
        now = self._clock()
        without = [t for t in running if t.number not in claimed]
        self._unclaimed = {t.number: self._unclaimed.get(t.number, now) for t in without}
        for trial in without:
            owner = trial.system_attrs.get(JOB, {}).get("owner")
            if owner and has_ended(owner):
                self._clear(trial.number, f"its worker {owner} has ended")
            elif now - self._unclaimed[trial.number] >= self._patience:
                self._clear(trial.number, "no worker has claimed it")

    def _clear(self, number: int, reason: str) -> None:
        """End a trial that is nobody's any more, unless another worker has ended it."""
        try:
            set_trial_attribute(self._study, number, INTERRUPTED, reason)
            self._study.tell(number, state=TrialState.FAIL, skip_if_finished=True)
        except UpdateFinishedTrialError:
            return  # `tell` looks first and then sets: another worker came in between
