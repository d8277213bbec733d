"""The sampler: proposes the candidate of the next job of a plan."""

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
from mordal_optuna.processes.liveness import has_ended, owner_name
from mordal_optuna.processes.outages import is_outage, outage
from mordal_optuna.processes.patience import Patience
from mordal_optuna.progress import Silent
from mordal_optuna.search.attributes import (
    ALIVE,
    FAILURE,
    INTERRUPTED,
    JOB,
    LOST_SECONDS,
    RUNGS,
    STOPPED_BECAUSE,
)
from mordal_optuna.search.history import HistoryReader, candidate_of, is_score
from mordal_optuna.search.marks import Mark, Pulse, Watch, mark_of
from mordal_optuna.search.plan import Finished, Job, Plan, Wait, next_job
from mordal_optuna.search.space import PairSpace
from mordal_optuna.search.trials import (
    raised_by_objective,
    set_system_attribute,
    set_trial_attribute,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

    from mordal_optuna.errors import InfrastructureError
    from mordal_optuna.search.history import History


# Seconds between two looks while others do all that is certain to be needed: growing.
_FIRST_PAUSE, _LAST_PAUSE = 0.02, 2.0
# Optuna's own attribute of a trial that was enqueued.
_FIXED = "fixed_params"

_logger = get_logger(__name__)


class CkaClusterSampler(BaseSampler):
    """Samples `vision_encoder` and `llm` in the order a plan over CKA clusters asks for.

    Holds no state of the search: every call reads the study's trials. A pair is marked as taken
    in the storage when it is chosen, so that no two workers are sent to the same job: the next
    one that is certain to be needed is proposed, and while there is none the call waits. Inside
    one thread that holds the other trials itself (batches of `Study.ask`) there is nothing to
    wait for, and the most wanted pair is proposed again.

    A pair that is promoted keeps the further parameters (a learning rate) that it began with.

    When the plan has nothing left to do the sampler stops the study and says why in the user
    attribute `mordal:stopped_because`; a trial that begins after that is pruned at once.

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
    ) -> None:
        """Sample for a plan.

        Args:
            plan: decides; see `mordal_optuna.search.plan`.
            independent_sampler: samples every parameter other than the pair; a `RandomSampler`
                by default.
            seed: of that default sampler. The pair itself is not random.
        """
        self._plan = plan
        self._other = independent_sampler or RandomSampler(seed=seed)
        self._reader = HistoryReader(plan)
        self._space = PairSpace(plan.vision_encoders, plan.llms)
        self._start_process()

    def _start_process(self) -> None:
        """What belongs to this process, and to no copy of this sampler elsewhere."""
        self._process = os.getpid()
        self._owner = owner_name()
        self._asking = threading.Lock()
        self._ended = threading.Condition()
        self._pulse = Pulse()
        self._random = random.Random()  # of pauses only
        self._outage: InfrastructureError | None = None  # that the last trial to end has met
        self._patience = Patience(time.sleep, Silent())

    def __getstate__(self) -> dict[str, Any]:
        """A copy owns none of the trials."""
        kept = ("_plan", "_other", "_reader", "_space")
        return {name: self.__dict__[name] for name in kept}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """See `__getstate__`."""
        self.__dict__.update(state)
        self._start_process()

    def reseed_rng(self) -> None:
        """Reseed the sampler of the other parameters, as Optuna does in every new thread."""
        self._other.reseed_rng()

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """The pair, and whatever the other sampler wants to sample jointly."""
        space = dict(self._other.infer_relative_search_space(study, trial))
        return {**space, **self._space.distributions}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The pair of the next job, with the other sampler's values beside it.

        Raises:
            SearchError: if the study's trials chose from another pool.
            TrialPruned: inside `Study.optimize`, if the plan has nothing left to do.
            LastingOutageError: if trials have met outages for half an hour; the study is stopped.
        """
        own = self._space.distributions
        self._wait_out(study)
        candidate = self._take(study, trial)
        rest = {k: v for k, v in search_space.items() if k not in own}
        values = dict(self._other.sample_relative(study, trial, rest))
        kept = self._kept(study, trial, candidate, rest)
        return {**values, **kept, **self._space.values(candidate)}

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Every parameter other than the pair: as the pair began with, or by the other sampler.

        Raises:
            SearchError: if the pair began with a value of another range.
        """
        mark = mark_of(trial)
        if mark:
            asked = {param_name: param_distribution}
            kept = self._kept(study, trial, mark.candidate, asked)
            if kept:
                return kept[param_name]
        return self._other.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Mark a trial that comes with its pair: one that was enqueued, or that Optuna retries."""
        self._other.before_trial(study, trial)
        encoder, llm = self._fixed(trial)
        if encoder and llm:
            self._mark(study, trial, Candidate(encoder, llm), 0)

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Say why a trial failed; stop the study once the plan has nothing left to do."""
        self._other.after_trial(study, trial, state, values)
        self._note_failure(study, trial, state)
        self._let_go(study, trial)
        # With what was read when its pair was chosen. What others have finished since may end the
        # search as well: then their workers see it, or the next trial does.
        minimize = study.direction == StudyDirection.MINIMIZE
        jobs = self._plan.jobs(self._reader.read_with(trial, minimize=minimize))
        if isinstance(jobs, Finished):
            self._stop(study, jobs)

    def _take(self, study: Study, trial: FrozenTrial) -> Candidate:
        """Choose a pair for a trial and mark it as taken, waiting as long as there is none."""
        if os.getpid() != self._process:
            self._start_process()  # a fork has its parent's names, and none of its threads
        watch, pause, told = Watch(), _FIRST_PAUSE, False
        while True:
            # Threads choose one after the other; what other processes choose is seen by marks.
            with self._asking:
                found = self._choose(study, trial, watch)
            if isinstance(found, Candidate):
                return found
            if isinstance(found, Finished):
                return self._after_the_end(study, trial, found)
            if not told and pause >= _LAST_PAUSE:
                told = True
                _logger.info(
                    f"Trial {trial.number} waits: others do all that is certain to be needed."
                )
            with self._ended:
                self._ended.wait(pause * self._random.uniform(0.5, 1.5))
            pause = min(1.5 * pause, _LAST_PAUSE)

    def _wait_out(self, study: Study) -> None:
        """Pause where the last trial has met an outage, longer from one to the next."""
        met, self._outage = self._outage, None
        if met is None:
            return
        try:
            self._patience.wait(met)
        except LastingOutageError:
            self._stop_loop(study)
            raise

    def _choose(
        self, study: Study, trial: FrozenTrial, watch: Watch
    ) -> Candidate | Wait | Finished:
        """One try to choose a pair."""
        history = study_history(
            study, exclude=trial.number, reader=self._reader, gone=watch.silent
        )
        job = next_job(self._plan, history)
        if isinstance(job, Finished):
            return job
        if isinstance(job, Wait):
            others = _running(study, trial)
            watch.look(others)
            if not all(self._pulse.is_of_this_thread(study, other) for other in others):
                return job
            return self._mark(study, trial, self._most_wanted(history), 0)
        encoder, llm = self._fixed(trial)
        if encoder or llm:  # the plan asked for no such trial
            wanted = job.candidate
            pair = Candidate(encoder or wanted.vision_encoder, llm or wanted.llm)
            return self._mark(study, trial, pair, 0)
        self._mark(study, trial, job.candidate, job.samples)
        if self._is_contested(study, trial, job, watch):
            set_system_attribute(study, trial, JOB, None)
            self._let_go(study, trial)
            return Wait()
        return job.candidate

    def _fixed(self, trial: FrozenTrial) -> tuple[str | None, str | None]:
        """Encoder and LLM that a trial came with; None where it is free."""
        return self._space.named({**trial.system_attrs.get(_FIXED, {}), **trial.params})

    def _most_wanted(self, history: History) -> Candidate:
        jobs = self._plan.jobs(history)
        return self._leader(history) if isinstance(jobs, Finished) else jobs[0].candidate

    def _mark(
        self, study: Study, trial: FrozenTrial, candidate: Candidate, samples: int
    ) -> Candidate:
        mark = Mark(candidate, samples, self._owner, time.time())
        set_system_attribute(study, trial, JOB, mark.stored())
        self._pulse.begin(study, trial)
        return candidate

    def _let_go(self, study: Study, trial: FrozenTrial) -> None:
        self._pulse.end(study, trial)
        with self._ended:
            self._ended.notify_all()

    def _is_contested(self, study: Study, trial: FrozenTrial, job: Job, watch: Watch) -> bool:
        """Whether another process has marked the same pair at the same time.

        Each marks first and looks then, so that at most one of them sees nobody else. Those that
        see one another all give way, and try again after pauses of random length.
        """
        return any(
            mark.candidate == job.candidate
            and mark.owner != self._owner
            and other.number not in watch.silent
            and not has_ended(mark.owner)
            for other in _running(study, trial)
            if (mark := mark_of(other))
        )

    def _after_the_end(self, study: Study, trial: FrozenTrial, end: Finished) -> Candidate:
        """End the trial at once; outside `Study.optimize`, which could do so, take the leader."""
        if self._stop(study, end):
            raise TrialPruned(f"the search has ended: {end.reason}")
        history = study_history(study, exclude=trial.number, reader=self._reader)
        return self._mark(study, trial, self._leader(history), 0)

    def _leader(self, history: History) -> Candidate:
        winner = self._plan.winner(history)
        if winner is None:
            return Candidate(self._plan.vision_encoders[0], self._plan.llms[0])
        return winner

    def _stop(self, study: Study, end: Finished) -> bool:
        """Say why the search ends and stop the study; whether there was a loop to stop."""
        if end.failed:
            _logger.warning(f"The search ends without an answer: {end.reason}.")
        else:
            # Called on the class on purpose, as in `study_history`.
            Study.set_user_attr(study, STOPPED_BECAUSE, end.reason)
        return self._stop_loop(study)

    @staticmethod
    def _stop_loop(study: Study) -> bool:
        try:
            study.stop()
        except RuntimeError:
            # Optuna raises it outside `optimize`: with ask and tell there is no loop to stop,
            # and what was stored or raised tells the caller.
            return False
        return True

    def _kept(
        self,
        study: Study,
        trial: FrozenTrial,
        candidate: Candidate,
        asked: Mapping[str, BaseDistribution],
    ) -> dict[str, Any]:
        """Values that a pair's earlier trials had, of the parameters asked for.

        Raises:
            SearchError: if the range of one has changed.
        """
        if not asked:
            return {}
        history = study_history(study, exclude=trial.number, reader=self._reader)
        kept = [known for known in history.of(candidate).parameters if known.name in asked]
        for known in kept:
            if known.distribution != asked[known.name]:
                raise SearchError(
                    f"{candidate} goes on with {known.name} = {known.value!r} out of "
                    f"{known.distribution}, and the objective asks for {asked[known.name]}; keep "
                    "the range, or begin a new study"
                )
        return {known.name: known.value for known in kept}

    def _note_failure(self, study: Study, trial: FrozenTrial, state: TrialState) -> None:
        """Store why a trial failed, and what it spent; or that it reported what is no score."""
        notes: dict[str, Any] = {}
        error = raised_by_objective() if state == TrialState.FAIL else None
        if error and is_outage(error):
            self._outage = outage(error)
        elif state != TrialState.PRUNED or trial.intermediate_values:
            self._patience.reset()
        if state == TrialState.FAIL and candidate_of(trial):
            if not trial.user_attrs.keys() & {FAILURE, INTERRUPTED}:
                notes = _reason(error)
            if LOST_SECONDS not in trial.user_attrs:
                notes[LOST_SECONDS] = self._lost_seconds(trial)
        elif wrong := wrong_report(trial):
            _logger.warning(f"Trial {trial.number} counts as failed: {wrong}")
            notes = {FAILURE: wrong}
        for key, value in notes.items():
            set_trial_attribute(study, trial.number, key, value)

    def _lost_seconds(self, trial: FrozenTrial) -> float:
        """What a failed trial spent beside what its own scores tell; by its worker's clock."""
        mark = mark_of(trial)
        if mark is None:
            return 0.0
        mine = mark.owner == self._owner
        until = time.time() if mine else trial.system_attrs.get(ALIVE, mark.begun)
        told = trial.user_attrs.get(RUNGS, {}).values()
        known = sum(rung["eval_seconds"] for rung in told)
        known += max((rung["train_seconds"] for rung in told), default=0.0)
        return max(0.0, until - mark.begun - known)


def study_history(
    study: Study,
    *,
    exclude: int | None = None,
    reader: HistoryReader | None = None,
    gone: Collection[int] = (),
) -> History:
    """The history of a study as stored now.

    Args:
        study: any study.
        exclude: number of a trial to leave out, such as the one being sampled for.
        reader: of the same study, to be quicker from the second call on.
        gone: numbers of running trials whose worker is taken for dead.

    Raises:
        SearchError: if a trial chose from another pool than the reader's.
    """
    # Called on the class on purpose, as above: Hyperband hands samplers and pruners a subclass
    # that shows one bracket's trials only and forbids user attributes. Plans need the whole.
    trials = Study.get_trials(study, deepcopy=False)
    minimize = study.direction == StudyDirection.MINIMIZE
    known = reader or HistoryReader()
    return known.read(trials, minimize=minimize, exclude=exclude, gone=gone)


def wrong_report(trial: FrozenTrial) -> str | None:
    """What is wrong with the first reported value that is no score; None if all are scores."""
    for samples, value in sorted(trial.intermediate_values.items()):
        if not is_score(value):
            return (
                f"trial {trial.number} reported {value} at {samples} samples; scores, and errors "
                "where the study minimises, must be between 0 and 1"
            )
    return None


def _running(study: Study, trial: FrozenTrial) -> list[FrozenTrial]:
    """The study's other running trials that have their pair."""
    running = Study.get_trials(study, deepcopy=False, states=(TrialState.RUNNING,))
    return [t for t in running if t.number != trial.number and candidate_of(t)]


def _reason(error: BaseException | None) -> dict[str, Any]:
    """Why a trial failed, as it is stored."""
    if error is None:
        return {FAILURE: "the objective gave no value, or the trial was told to have failed"}
    text = f"{type(error).__name__}: {error}"
    passing = not isinstance(error, Exception) or is_outage(error)
    return {INTERRUPTED if passing else FAILURE: text}
