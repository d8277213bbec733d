"""The status of a study at a glance: who works, what is done, who leads, what is left.

Everything is read from the study's database, in a few queries, from any machine. Nothing is
written, and neither models nor data are opened.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, cast

from optuna.trial import TrialState

from mordal_optuna.search.attributes import (
    CONFIG,
    FULL_SAMPLES,
    FURTHER_SCORES,
    INTERRUPTED,
    REPRESENTATION,
    STOPPED_BECAUSE,
)
from mordal_optuna.search.history import History, HistoryReader, candidate_of
from mordal_optuna.search.jobs import Finished, usable
from mordal_optuna.search.methods.comparing import compares_models
from mordal_optuna.search.plan import PooledPlan
from mordal_optuna.study.costs import Costs
from mordal_optuna.study.failures import common_failure
from mordal_optuna.study.forecast import seconds_left
from mordal_optuna.study.planning import study_plan
from mordal_optuna.study.presence import LiveWorker, read_alive
from mordal_optuna.study.result import costs_so_far, stored_representation
from mordal_optuna.study.resuming import resumed_settings
from mordal_optuna.study.stored import StoredStudy, connected, read_study
from mordal_optuna.study.task_results import mean_of
from mordal_optuna.study.warnings import (
    result_warnings,
    stored_facts,
    warnings_before_training,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optuna import Study

    from mordal_optuna.config import StudySettings
    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.curves import Measurement
    from mordal_optuna.search.history import CandidateHistory
    from mordal_optuna.search.methods.joint import JointPlan
    from mordal_optuna.search.plan import Plan
    from mordal_optuna.search.ranking import Estimate

State = Literal["not begun", "comparing", "searching", "scoring", "ended", "failed"]
# What the leader's interval was computed from: all scores of the pool, or the pair's own.
Basis = Literal["pool", "own scores"]

# Scores up to which the plan is asked for its winner and its next jobs. Beyond, these would take
# many seconds: a curve is fitted to each pair, or the model of the whole pool to all scores.
_FITTED = 400
# In searches of more scores: pairs among which the leader is looked for, the best measured ones.
_BEST = 32
# Interruptions that are listed, the newest.
_INTERRUPTIONS = 5


@dataclass(frozen=True)
class Rung:
    """How far the pool is at a rung.

    Attributes:
        samples: number of alignment samples.
        scored: pairs that are scored there.
        running: pairs that a worker is training to it.
    """

    samples: int
    scored: int
    running: int


@dataclass(frozen=True)
class Leader:
    """The pair that leads.

    Attributes:
        candidate: the pair.
        measured: its score at its highest rung.
        estimate: its estimated score after all samples, with its interval.
        final: whether the search has measured it as the winner.
        basis: what the estimate was computed from.
    """

    candidate: Candidate
    measured: Measurement
    estimate: Estimate
    final: bool
    basis: Basis


@dataclass(frozen=True)
class Failed:
    """A pair that could not be trained or scored in its last attempt.

    Attributes:
        attempts: number of failures that count.
        given_up: whether it is not tried again.
        reason: reason of the newest failure.
    """

    attempts: int
    given_up: bool
    reason: str


@dataclass(frozen=True)
class Status:
    """The status of a study.

    Attributes:
        study: name of the study.
        task: name of its target task, or of the mean of several.
        method: name of its search method.
        state: `not begun`; `comparing` models; `searching`; `scoring` the winner on further tasks;
            `ended`; or `failed`, which needs a person.
        reason: why the search has ended or failed; None while it goes on.
        workers: workers that are alive, in the order of their start.
        pairs: number of pairs in the pool.
        trained: number of pairs with a score.
        trials: number of trials by state, such as "running".
        full_samples: D; None before the study has begun.
        stage: stage of the search that wants the next job; None if it is not known.
        rounds: rounds of the method `joint` that have begun; None for other methods, and for
            searches of many scores.
        rungs: the plan's rungs, by ascending samples.
        leader: the pair that leads; None before the first score.
        ranking: estimates of all pairs of the pool, best first; of the best measured pairs alone
            in searches of many scores, see `Leader.basis`. Empty before the first score.
        costs: device-seconds spent.
        budget: device-seconds that the study may spend; None without a limit.
        left: device-seconds that it is expected to spend from now on; None if that is not known.
        left_by: what `left` follows from, `plan` or `budget`.
        failures: pairs that failed.
        interruptions: pair and reason of the newest interrupted trials, newest first.
        warnings: reasons to look closer, one sentence each.
    """

    study: str
    task: str
    method: str
    state: State
    reason: str | None = None
    workers: tuple[LiveWorker, ...] = ()
    pairs: int = 0
    trained: int = 0
    trials: Mapping[str, int] = field(default_factory=dict)
    full_samples: int | None = None
    stage: str | None = None
    rounds: int | None = None
    rungs: tuple[Rung, ...] = ()
    leader: Leader | None = None
    ranking: tuple[Estimate, ...] = ()
    costs: Costs = field(default_factory=Costs)
    budget: float | None = None
    left: float | None = None
    left_by: Literal["plan", "budget"] | None = None
    failures: Mapping[Candidate, Failed] = field(default_factory=dict)
    interruptions: tuple[tuple[Candidate, str], ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def is_over(self) -> bool:
        """Whether nothing changes any more without a person."""
        return self.state in ("ended", "failed")

    @property
    def seconds_to_end(self) -> float | None:
        """Seconds until the expected end of the search, if the workers stay as they are.

        None if what is left is not known, or no worker is alive.
        """
        devices = sum(worker.devices for worker in self.workers)
        if self.state != "searching" or self.left is None or not devices:
            return None
        return self.left / devices


def read_status(settings: StudySettings) -> Status:
    """Read the status of a study.

    Args:
        settings: the study file's settings.

    Raises:
        ConfigError: if the database's address is none.
        StudyMismatchError: if the study began with another configuration.
        StoreError: if the database cannot be used; hides the password.
    """
    with connected(settings.storage_url(), key=settings.storage_key) as connection:
        workers = read_alive(connection, settings.study) if connection else ()
        study = read_study(connection, settings.study) if connection else None
    if study is None or CONFIG not in study.user_attrs or FULL_SAMPLES not in study.user_attrs:
        return _unbegun(settings, workers)
    return _of(study, settings, workers)


def _task(settings: StudySettings) -> str:
    weights = settings.task_weights
    return mean_of(weights) if weights else settings.targets[0].name


def _unbegun(settings: StudySettings, workers: tuple[LiveWorker, ...]) -> Status:
    return Status(
        study=settings.study,
        task=_task(settings),
        method=settings.search.method,
        state="not begun",
        workers=workers,
        pairs=len(settings.models().candidates),
    )


def _of(study: StoredStudy, settings: StudySettings, workers: tuple[LiveWorker, ...]) -> Status:
    # Only attributes and trials are read, which a stored study has as well.
    optuna_study = cast("Study", study)
    settings = resumed_settings(optuna_study, settings)
    representation = stored_representation(optuna_study)
    full = study.user_attrs[FULL_SAMPLES]
    plan = study_plan(settings, full, representation)
    # The configuration was compared, and with it the pool of every trial.
    history = HistoryReader().read(study.trials, minimize=study.minimize)
    state, reason = _state(study, settings)
    joint = cast("JointPlan", plan) if settings.search.method == "joint" else None
    walk = _Walk.of(plan, history, joint, over=state in ("ended", "scoring"))
    if state == "searching" and walk.failed:
        state, reason = "failed", walk.failed
    leader, ranking = _leader(plan, history, small=walk.small)
    costs = costs_so_far(history, representation)
    hours = settings.search.device_hours
    budget = None if hours is None else hours * 3600
    left, left_by = (
        _left(plan, history, costs, budget, planned=walk.small and not joint)
        if state == "searching"
        else (None, None)
    )
    return Status(
        study=settings.study,
        task=_task(settings),
        method=settings.search.method,
        state=state,
        reason=reason,
        workers=workers,
        pairs=len(plan.vision_encoders) * len(plan.llms),
        trained=sum(bool(record.rungs) for record in history.candidates.values()),
        trials=Counter(trial.state.name.lower() for trial in study.trials),
        full_samples=full,
        stage=walk.stage,
        rounds=walk.rounds,
        rungs=_rungs(plan, history),
        leader=leader,
        ranking=ranking,
        costs=costs,
        budget=budget,
        left=left,
        left_by=left_by,
        failures=_failures(history),
        interruptions=_interruptions(study),
        warnings=_warnings(study, history, leader, full, alone=not workers, state=state),
    )


def _state(study: StoredStudy, settings: StudySettings) -> tuple[State, str | None]:
    stopped = study.user_attrs.get(STOPPED_BECAUSE)
    if stopped is not None:
        unscored = settings.also_score and study.user_attrs.get(FURTHER_SCORES) is None
        return ("scoring" if unscored else "ended"), stopped
    common = common_failure(study.trials)
    if common:
        names = ", ".join(map(str, common.candidates))
        return "failed", f"{names} failed one after the other: {common.reason}"
    if compares_models(settings.search) and REPRESENTATION not in study.user_attrs:
        return "comparing", None
    return "searching", None


@dataclass(frozen=True)
class _Walk:
    """What the plan says about a history; nothing of it where that would take too long."""

    small: bool
    stage: str | None = None
    rounds: int | None = None
    failed: str | None = None

    @staticmethod
    def of(plan: Plan, history: History, joint: JointPlan | None, *, over: bool) -> _Walk:
        small = sum(len(r.rungs) for r in history.candidates.values()) <= _FITTED
        if not small:
            return _Walk(small=False)
        rounds = joint.rounds(history) if joint else None
        if over:
            return _Walk(small, rounds=rounds)
        jobs = plan.jobs(history)
        if isinstance(jobs, Finished):
            return _Walk(small, rounds=rounds, failed=jobs.reason if jobs.failed else None)
        return _Walk(small, jobs[0].stage if jobs else None, rounds)


def _leader(
    plan: Plan, history: History, *, small: bool
) -> tuple[Leader | None, tuple[Estimate, ...]]:
    """The pair that leads, and the ranking that says so."""
    if not any(record.measurements for record in history.candidates.values()):
        return None, ()
    if small:
        candidate = plan.winner(history)
        ranking = plan.ranking(history)
    else:
        # By the rule of most plans. That of `joint` needs the model of the whole pool.
        assert isinstance(plan, PooledPlan)
        best = _best_measured(history)
        candidate = PooledPlan.winner(plan, best)
        ranking = plan.ranker.rank_trained(best)
    assert candidate is not None
    leader = Leader(
        candidate,
        history.of(candidate).measurements[-1],
        next(e for e in ranking if e.candidate == candidate),
        final=plan.answer(history, candidate) is not None,
        basis="pool" if small else "own scores",
    )
    return leader, tuple(ranking)


def _best_measured(history: History) -> History:
    """The history of the pairs with the best scores at the highest rung that any has reached."""
    top = max(m.samples for r in history.candidates.values() for m in r.measurements)
    there = {c: m.score for c, record in history.candidates.items() if (m := record.at(top))}
    best = sorted(there, key=lambda c: -there[c])[:_BEST]
    return History({candidate: history.of(candidate) for candidate in sorted(best)})


def _left(
    plan: Plan, history: History, costs: Costs, budget: float | None, *, planned: bool
) -> tuple[float | None, Literal["plan", "budget"] | None]:
    expected = seconds_left(plan, history) if planned else None
    unspent = None if budget is None else max(budget - costs.total, 0.0)
    if unspent is not None and (expected is None or unspent < expected):
        return unspent, "budget"
    return expected, None if expected is None else "plan"


def _rungs(plan: Plan, history: History) -> tuple[Rung, ...]:
    scored = Counter(m.samples for r in history.candidates.values() for m in r.rungs)
    running = Counter(
        _wanted(plan, record) for record in history.candidates.values() if record.running
    )
    samples = sorted({*plan.rungs, *scored})
    return tuple(Rung(rung, scored[rung], running[rung]) for rung in samples)


def _wanted(plan: Plan, record: CandidateHistory) -> int:
    """The rung that a running candidate is being trained to."""
    return next((rung for rung in plan.rungs if rung > record.top), plan.rungs[-1])


def _failures(history: History) -> dict[Candidate, Failed]:
    return {
        candidate: Failed(record.failures, not usable(record), record.failure)
        for candidate, record in history.candidates.items()
        if record.failure
        and (not usable(record) or (record.last_failure or 0) > (record.last_trial or -1))
    }


def _interruptions(study: StoredStudy) -> tuple[tuple[Candidate, str], ...]:
    found = [
        (candidate, trial.user_attrs[INTERRUPTED])
        for trial in study.trials
        if trial.state == TrialState.FAIL and INTERRUPTED in trial.user_attrs
        if (candidate := candidate_of(trial))
    ]
    return tuple(found[: -_INTERRUPTIONS - 1 : -1])


def _warnings(
    study: StoredStudy,
    history: History,
    leader: Leader | None,
    full_samples: int,
    *,
    alone: bool,
    state: State,
) -> tuple[str, ...]:
    facts = stored_facts(study.user_attrs)
    curves = {c: r.measurements for c, r in history.candidates.items() if r.measurements}
    found: tuple[str, ...] = ()
    if leader:
        found = result_warnings(curves, leader.candidate, facts, full_samples)
    elif facts:
        found = warnings_before_training(facts, full_samples)
    if alone and state not in ("ended", "failed"):
        found = ("no worker is alive: the study stands still until one is started", *found)
    return found
