"""The sampler: proposes the candidate of the most wanted job of a plan."""

from __future__ import annotations

import os
import random
import threading
import time
from typing import TYPE_CHECKING, Any

from optuna import TrialPruned
from optuna.logging import get_logger
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study, StudyDirection
from optuna.trial import TrialState

from mordal_optuna.errors import LastingOutageError, SearchError
from mordal_optuna.pool import Candidate
from mordal_optuna.processes.liveness import owner_name
from mordal_optuna.processes.outages import is_outage, outage
from mordal_optuna.processes.patience import Patience
from mordal_optuna.progress import Silent
from mordal_optuna.search.attributes import (
    FAILURE,
    INTERRUPTED,
    JOB,
    LOST_SECONDS,
    STOPPED_BECAUSE,
)
from mordal_optuna.search.heartbeats import (
    Assignment,
    HeartbeatMonitor,
    HeartbeatSender,
    assignment_of,
    competitors,
)
from mordal_optuna.search.history import HistoryReader, candidate_of
from mordal_optuna.search.jobs import Finished, Job, Wait, llm_first
from mordal_optuna.search.plan import Plan, next_jobs
from mordal_optuna.search.readings import SharedHistories, others_running, running_beside
from mordal_optuna.search.readings import study_history as study_history
from mordal_optuna.search.space import PairSpace
from mordal_optuna.search.trial_failures import failure_attribute, lost_seconds, wrong_report
from mordal_optuna.search.trials import (
    raised_by_objective,
    set_system_attribute,
    set_trial_attribute,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

    from mordal_optuna.errors import InfrastructureError
    from mordal_optuna.search.history import History
    from mordal_optuna.search.readings import PairClaims


# First and longest pause in seconds between two attempts to find a job; pauses grow in between.
_FIRST_PAUSE, _LAST_PAUSE = 0.02, 2.0
# Jobs among which workers choose that ask together: at most two to this power.
_MOST_CONTESTS = 8
# Pairs that a worker tries to claim before it looks at the study again.
_MOST_TRIED = 4
# Wanted jobs that are looked at.
_MOST_SEEN = 256
# Optuna's attribute with the parameters of an enqueued trial.
_FIXED = "fixed_params"

_logger = get_logger(__name__)


class CkaClusterSampler(BaseSampler):
    """Samples `vision_encoder` and `llm` in the order that a plan over CKA clusters asks for.

    The sampler keeps no state of the search: every call reads the study's trials. The chosen pair
    is stored with the trial at once, so that no two workers get the same job: the next job that is
    certain to be needed is proposed, and while there is none the call waits. If one thread holds
    all running trials itself (batches of `Study.ask`), waiting would never end, and the most
    wanted pair is proposed again.

    A promoted pair keeps the values of further parameters (a learning rate) of its first trial.

    When the plan is finished, the sampler stops the study and stores the reason in the user
    attribute `mordal:stopped_because`. A trial that begins after that is pruned at once.

    Example:
        ```python
        sampler = CkaClusterSampler(MordalPlan(tree, rungs=(512, 1024, 2048), full_samples=16384))
        study = optuna.create_study(direction="maximize", sampler=sampler)
        ```
    """

    def __init__(
        self,
        plan: Plan,
        *,
        independent_sampler: BaseSampler | None = None,
        seed: int | None = None,
        claims: PairClaims | None = None,
        keep_llm: bool = False,
    ) -> None:
        """Create a sampler.

        Args:
            plan: plan that decides, see `mordal_optuna.search.plan`.
            independent_sampler: sampler of all parameters other than the pair; by default a
                `RandomSampler`.
            seed: random seed of the default `independent_sampler`; the pair is not random.
            claims: claims of the objective, the same object; a pair is then claimed as soon as it
                is chosen, which spares a reading of the study. By default the objective claims it.
            keep_llm: whether, of jobs that the plan calls tied (`Job.tied`), one with the LLM of
                this process's last pair is chosen, whose weights lie in the machine's file cache;
                by default the first one is.
        """
        self._plan = plan
        self._other = independent_sampler or RandomSampler(seed=seed)
        self._reader = HistoryReader(plan)
        self._space = PairSpace(plan.vision_encoders, plan.llms)
        self._claims, self._keep_llm = claims, keep_llm
        self._start_process()

    def _start_process(self) -> None:
        """Create everything that belongs to this process and is not copied to another one."""
        self._process = os.getpid()
        self._owner = owner_name()
        self._asking = threading.Lock()
        self._ended = threading.Condition()
        self._heartbeats = HeartbeatSender()
        self._random = random.Random()  # for pauses, and for jobs that others want as well
        self._contests = 0  # assignments that were contested lately
        self._llm: str | None = None  # of the last pair
        self.shared = SharedHistories()  # with the objective and the worker
        self._outage: InfrastructureError | None = None  # outage that ended the last trial
        self._patience = Patience(time.sleep, Silent())

    def __getstate__(self) -> dict[str, Any]:
        """A copy owns none of the running trials."""
        copied = ("_plan", "_other", "_reader", "_space")
        return {name: self.__dict__[name] for name in copied}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """See `__getstate__`."""
        self.__dict__.update(state, _claims=None, _keep_llm=False)
        self._start_process()

    def reseed_rng(self) -> None:
        """Reseed the sampler of the other parameters; Optuna calls this in every new thread."""
        self._other.reseed_rng()

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """The pair, and the parameters that the other sampler samples jointly."""
        space = dict(self._other.infer_relative_search_space(study, trial))
        return {**space, **self._space.distributions}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The pair of the most wanted job, and the other sampler's values.

        Raises:
            SearchError: if the study's trials chose from another pool.
            TrialPruned: inside `Study.optimize`, if the plan is finished.
            LastingOutageError: if all trials of half an hour met outages; the study is stopped.
        """
        pair_parameters = self._space.distributions
        self._wait_out_outage(study)
        candidate = self._take_pair(study, trial)
        rest = {k: v for k, v in search_space.items() if k not in pair_parameters}
        values = dict(self._other.sample_relative(study, trial, rest))
        fixed = self._earlier_values(study, trial, candidate, rest)
        return {**values, **fixed, **self._space.values(candidate)}

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """A parameter other than the pair: the pair's earlier value, or the other sampler's.

        Raises:
            SearchError: if the pair's earlier value comes from another range.
        """
        assignment = assignment_of(trial)
        if assignment:
            requested = {param_name: param_distribution}
            fixed = self._earlier_values(study, trial, assignment.candidate, requested)
            if fixed:
                return fixed[param_name]
        return self._other.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Store the assignment of a trial whose pair is fixed: enqueued, or retried by Optuna."""
        self._other.before_trial(study, trial)
        encoder, llm = self._fixed_parts(trial)
        if encoder and llm:
            self._assign(study, trial, Candidate(encoder, llm), 0)

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Store why a trial failed; stop the study once the plan is finished."""
        self._other.after_trial(study, trial, state, values)
        self._store_failure(study, trial, state)
        self._release(study, trial)
        # Uses the history that was read when the pair was chosen. If trials that other workers
        # have finished since end the search, those workers or the next trial will notice.
        minimize = study.direction == StudyDirection.MINIMIZE
        jobs = self._plan.jobs(self._reader.read_with(trial, minimize=minimize))
        if isinstance(jobs, Finished):
            self._stop(study, jobs)

    def _take_pair(self, study: Study, trial: FrozenTrial) -> Candidate:
        """Choose a pair for a trial and store its assignment; wait while there is no job."""
        if os.getpid() != self._process:
            self._start_process()  # a forked process has its parent's owner name and no threads
        monitor, pause, logged = HeartbeatMonitor(), _FIRST_PAUSE, False
        while True:
            # Threads choose one after the other; the choices of other processes are read from
            # their assignments.
            with self._asking:
                choice = self._choose(study, trial, monitor, patient=pause < _LAST_PAUSE)
            if isinstance(choice, Candidate):
                return choice
            if isinstance(choice, Finished):
                return self._end_trial(study, trial, choice)
            if not logged and pause >= _LAST_PAUSE:
                logged = True
                _logger.info(
                    f"Trial {trial.number} waits: other workers run all jobs that are certain to "
                    "be needed."
                )
            with self._ended:
                self._ended.wait(pause * self._random.uniform(0.5, 1.5))
            pause = min(1.5 * pause, _LAST_PAUSE)

    def _wait_out_outage(self, study: Study) -> None:
        """Pause if an outage ended the last trial; pauses grow with consecutive outages."""
        outage_met, self._outage = self._outage, None
        if outage_met is None:
            return
        try:
            self._patience.wait(outage_met)
        except LastingOutageError:
            self._stop_loop(study)
            raise

    def _choose(
        self, study: Study, trial: FrozenTrial, monitor: HeartbeatMonitor, *, patient: bool = True
    ) -> Candidate | Wait | Finished:
        """One attempt to choose a pair."""
        offered = self.shared.take_offered()
        history, claimed = offered or (
            study_history(study, exclude=trial.number, reader=self._reader, dead=monitor.silent),
            frozenset(),
        )
        jobs = next_jobs(self._plan, history, _MOST_SEEN, besides=claimed)
        if offered and (isinstance(jobs, Finished) or not jobs):
            return self._choose(study, trial, monitor)  # the study may say more by now
        if not jobs and self._holds_all_running(study, trial, monitor):
            wanted = self._plan.jobs(history)
            pair = self._leader(history) if isinstance(wanted, Finished) else wanted[0].candidate
            jobs = [Job(pair, 0, "batch")]
        if isinstance(jobs, Finished) or not jobs:
            return jobs if isinstance(jobs, Finished) else Wait()
        encoder, llm = self._fixed_parts(trial)
        if encoder or llm:  # the plan did not ask for this trial
            first = jobs[0].candidate
            pair = Candidate(encoder or first.vision_encoder, llm or first.llm)
            return self._assign(study, trial, pair, 0)
        job = self._claim(trial, llm_first(jobs, self._llm) if self._keep_llm else jobs)
        if job is None and patient:
            return Wait()
        # What others hold for long is assigned all the same: the trial will find the claim and
        # end, and the worker can see whether the others live.
        chosen, is_claimed = job or jobs[0], job is not None and self._claims is not None
        self._assign(study, trial, chosen.candidate, chosen.samples)
        now = self._uncontested(study, trial, chosen.candidate, history, monitor)
        if now is None:
            self._contests = min(self._contests + 1, _MOST_CONTESTS)
            set_system_attribute(study, trial, JOB, None)
            self._release(study, trial)
            return Wait()
        if is_claimed:
            self.shared.keep(trial.number, now)
        self._contests = max(self._contests - 1, 0)
        self._llm = chosen.candidate.llm
        return chosen.candidate

    def _claim(self, trial: FrozenTrial, jobs: Sequence[Job]) -> Job | None:
        """A job whose pair no other worker has claimed: the first one, unless others ask as well.

        Workers that ask together spread over the wanted jobs, all of which are certain. None if
        others have claimed what was tried.
        """
        for _ in range(_MOST_TRIED):
            among = min(2**self._contests, len(jobs))
            job = jobs[self._random.randrange(among) if self._contests else 0]
            if self._claims is None or self._claims.take(job.candidate, trial.number):
                return job
            self._contests = min(self._contests + 1, _MOST_CONTESTS)
        return None

    def _holds_all_running(
        self, study: Study, trial: FrozenTrial, monitor: HeartbeatMonitor
    ) -> bool:
        """Whether the calling thread itself holds all running trials, so that it must not wait.

        If none is running any more, those that the history showed have ended since it was read.
        """
        others = running_beside(study, trial)
        monitor.observe(others)
        mine = [self._heartbeats.is_of_this_thread(study, other) for other in others]
        return bool(mine) and all(mine)

    def _fixed_parts(self, trial: FrozenTrial) -> tuple[str | None, str | None]:
        """Encoder and LLM that are fixed for a trial; None for a part that is free."""
        return self._space.named({**trial.system_attrs.get(_FIXED, {}), **trial.params})

    def _assign(
        self, study: Study, trial: FrozenTrial, candidate: Candidate, samples: int
    ) -> Candidate:
        assignment = Assignment(candidate, samples, self._owner, time.time())
        set_system_attribute(study, trial, JOB, assignment.stored())
        self._heartbeats.begin(study, trial)
        return candidate

    def _release(self, study: Study, trial: FrozenTrial) -> None:
        self._heartbeats.end(study, trial)
        if self._claims is not None:
            self._claims.give_back(trial.number)
        with self._ended:
            self._ended.notify_all()

    def _uncontested(
        self,
        study: Study,
        trial: FrozenTrial,
        candidate: Candidate,
        history: History,
        monitor: HeartbeatMonitor,
    ) -> History | None:
        """The study's history now; None if another process has assigned the same pair meanwhile.

        Every process stores its assignment first and then reads those of others, so at most one of
        them finds no competitor. All processes that find one withdraw their assignment and try
        again after a pause of random length. A competitor may even have finished the job by then,
        so that its trial no longer runs; the scores of the pair show that.
        """
        # One reading is enough: a trial that has ended in it has reported its scores before.
        trials = Study.get_trials(study, deepcopy=False)
        minimize = study.direction == StudyDirection.MINIMIZE
        now = self._reader.read(trials, minimize=minimize, exclude=trial.number)
        others = [t for t in others_running(trials, trial) if t.number not in monitor.silent]
        changed = now.of(candidate).rungs != history.of(candidate).rungs
        return None if changed or competitors(others, candidate, self._owner) else now

    def _end_trial(self, study: Study, trial: FrozenTrial, end: Finished) -> Candidate:
        """Prune a trial that begins after the end of the search.

        Outside `Study.optimize` a sampler cannot prune a trial; there the leader is proposed.
        """
        if self._stop(study, end):
            raise TrialPruned(f"the search has ended: {end.reason}")
        history = study_history(study, exclude=trial.number, reader=self._reader)
        return self._assign(study, trial, self._leader(history), 0)

    def _leader(self, history: History) -> Candidate:
        winner = self._plan.winner(history)
        if winner is None:
            return Candidate(self._plan.vision_encoders[0], self._plan.llms[0])
        return winner

    def _stop(self, study: Study, end: Finished) -> bool:
        """Store why the search ends and stop the study.

        Returns:
            Whether the study runs inside `Study.optimize`, so that it could be stopped.
        """
        if end.failed:
            _logger.warning(f"The search ends without an answer: {end.reason}.")
        else:
            # Called on the class for the reason given in `study_history`.
            Study.set_user_attr(study, STOPPED_BECAUSE, end.reason)
        return self._stop_loop(study)

    @staticmethod
    def _stop_loop(study: Study) -> bool:
        try:
            study.stop()
        except RuntimeError:
            # Raised by Optuna outside `optimize`. With ask and tell there is no loop to stop; the
            # caller reads the stored reason, or gets the error that is being raised.
            return False
        return True

    def _earlier_values(
        self,
        study: Study,
        trial: FrozenTrial,
        candidate: Candidate,
        requested: Mapping[str, BaseDistribution],
    ) -> dict[str, Any]:
        """The values of requested parameters in a pair's earlier trials.

        Raises:
            SearchError: if the range of a parameter has changed.
        """
        if not requested:
            return {}
        history = study_history(study, exclude=trial.number, reader=self._reader)
        earlier = [p for p in history.of(candidate).parameters if p.name in requested]
        for parameter in earlier:
            if parameter.distribution != requested[parameter.name]:
                raise SearchError(
                    f"{candidate} continues with {parameter.name} = {parameter.value!r} out of "
                    f"{parameter.distribution}, and the objective asks for "
                    f"{requested[parameter.name]}; keep the range, or begin a new study"
                )
        return {parameter.name: parameter.value for parameter in earlier}

    def _store_failure(self, study: Study, trial: FrozenTrial, state: TrialState) -> None:
        """Store why a trial failed and its lost seconds, or that it reported an invalid score."""
        notes: dict[str, Any] = {}
        error = raised_by_objective() if state == TrialState.FAIL else None
        if error and is_outage(error):
            self._outage = outage(error)
        elif state != TrialState.PRUNED or trial.intermediate_values:
            self._patience.reset()
        if state == TrialState.FAIL and candidate_of(trial):
            if not trial.user_attrs.keys() & {FAILURE, INTERRUPTED}:
                notes = failure_attribute(error)
            if LOST_SECONDS not in trial.user_attrs:
                notes[LOST_SECONDS] = lost_seconds(trial, self._owner)
        elif wrong := wrong_report(trial):
            _logger.warning(f"Trial {trial.number} counts as failed: {wrong}")
            notes = {FAILURE: wrong}
        for key, value in notes.items():
            set_trial_attribute(study, trial.number, key, value)
