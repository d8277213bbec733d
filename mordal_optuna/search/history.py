"""History: what the trials of a study say about each candidate, merged by candidate.

The storage is the one source of truth. A promoted candidate has several trials; each repeats the
scores known before it and adds its own, so merging takes the first report of every rung.

A curve belongs to one configuration: where an objective asks for further parameters (a learning
rate), trials of a pair that differ in them are not merged. The configuration that has come
furthest, and of those the first, stands for the pair.
"""

from __future__ import annotations

import math
import threading
from bisect import insort
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from optuna.trial import TrialState

from mordal_optuna.errors import SearchError
from mordal_optuna.pool import Candidate
from mordal_optuna.processes.liveness import has_ended
from mordal_optuna.search.attributes import (
    ANSWERS,
    CONTINUES,
    FAILURE,
    INTERRUPTED,
    LOST_SECONDS,
    PAIR,
    RETRY,
    RUNGS,
    STOOD_BACK,
)
from mordal_optuna.search.curves import Measurement
from mordal_optuna.search.marks import mark_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

VISION_ENCODER = "vision_encoder"
LLM = "llm"
# In place of the names in large pools, see `search/space.py`.
VISION_ENCODER_INDEX = "vision_encoder_index"
LLM_INDEX = "llm_index"
_PAIR_PARAMETERS = frozenset((VISION_ENCODER, LLM, VISION_ENCODER_INDEX, LLM_INDEX))


@dataclass(frozen=True)
class Parameter:
    """A parameter of a trial beside its pair, such as a learning rate.

    Attributes:
        name: as the objective calls it.
        distribution: what it was sampled from.
        value: what it was.
    """

    name: str
    distribution: BaseDistribution
    value: Any


@dataclass(frozen=True)
class CandidateHistory:
    """What is known of one candidate.

    Attributes:
        measurements: scores by ascending samples.
        running: a trial of it is running.
        granted: rung up to which a running trial was asked for; 0 without one.
        failures: trials of it that ended in a failure of their own (not interrupted ones).
        failure: reason of the newest such failure.
        last_failure: number of the trial that ended in it; None without any.
        overruled: trials that ended before the rung that the plan had asked them for, of rungs
            that are not scored yet: another pruner, or the objective, stopped them.
        last_trial: number of the newest trial that reported a score; None without any.
        other_seconds: device-seconds beside those of the measurements: of trials that failed,
            and of trials whose objective tells no seconds, from their begin to their end.
        trained: samples that were trained on in the latter, over all of them.
        parameters: further parameters of the trials that were merged.
    """

    measurements: tuple[Measurement, ...] = ()
    running: bool = False
    granted: int = 0
    failures: int = 0
    failure: str | None = None
    last_failure: int | None = None
    overruled: int = 0
    last_trial: int | None = None
    other_seconds: float = 0.0
    trained: int = 0
    parameters: tuple[Parameter, ...] = ()

    @property
    def top(self) -> int:
        """Samples at the highest rung scored; 0 before the first."""
        return self.measurements[-1].samples if self.measurements else 0

    def at(self, samples: int) -> Measurement | None:
        """The score at a rung, if there is one."""
        return next((m for m in self.measurements if m.samples == samples), None)

    @property
    def train_seconds(self) -> float:
        """Device-seconds of training up to the highest rung, as the scores tell them."""
        return max((m.train_seconds for m in self.measurements), default=0.0)

    @property
    def eval_seconds(self) -> float:
        """Device-seconds of all evaluations, as the scores tell them."""
        return sum(m.eval_seconds for m in self.measurements)

    @property
    def train_spent(self) -> float:
        """Device-seconds of training that its scores cost, without what was found trained."""
        spent, before = 0.0, 0.0
        for m in self.measurements:
            own = m.train_seconds - before if m.train_spent is None else m.train_spent
            spent, before = spent + max(own, 0.0), max(before, m.train_seconds)
        return spent

    @property
    def eval_spent(self) -> float:
        """Device-seconds of evaluation that its scores cost, without those found scored."""
        return sum(
            m.eval_seconds if m.eval_spent is None else m.eval_spent for m in self.measurements
        )

    @property
    def seconds(self) -> float:
        """Device-seconds spent on it, failed trials included, found results not."""
        return self.train_spent + self.eval_spent + self.other_seconds


_NOTHING = CandidateHistory()


@dataclass(frozen=True)
class History:
    """Everything known, by candidate.

    Attributes:
        candidates: those with at least one trial.
    """

    candidates: Mapping[Candidate, CandidateHistory] = field(default_factory=dict)

    def of(self, candidate: Candidate) -> CandidateHistory:
        """What is known of a candidate; empty if it was never tried."""
        return self.candidates.get(candidate, _NOTHING)

    def below(self, samples: int) -> History:
        """What would be known without any score at `samples` or above."""
        cut = {
            candidate: replace(
                known, measurements=tuple(m for m in known.measurements if m.samples < samples)
            )
            for candidate, known in self.candidates.items()
        }
        return History(cut)

    @property
    def seconds(self) -> float:
        """Device-seconds spent so far on all candidates."""
        return sum(known.seconds for known in self.candidates.values())


class Pool(Protocol):
    """Names of the models that trials may choose from; every plan has them."""

    @property
    def vision_encoders(self) -> tuple[str, ...]:
        """In the pool's order."""
        ...

    @property
    def llms(self) -> tuple[str, ...]:
        """In the pool's order."""
        ...


def read_history(trials: Sequence[FrozenTrial], *, minimize: bool = False) -> History:
    """Merge the trials of a study by candidate.

    Trials without both parameters (other studies' parameters, or not sampled yet) are passed
    over. A failed or pruned trial's scores count as well: they were measured. A reported value
    that is no score (`is_score`) is left out.

    Args:
        trials: all trials of the study, in any order.
        minimize: whether the study reports errors, 1 - score, instead of scores.
    """
    return HistoryReader().read(sorted(trials, key=lambda t: t.number), minimize=minimize)


class HistoryReader:
    """Reads the history of a growing study without merging again what cannot change.

    Finished trials never change, so each is merged once. This is a memory of the storage and not
    a state of the search: a new reader finds the same history.
    """

    def __init__(self, pool: Pool | None = None) -> None:
        """Read nothing yet.

        Args:
            pool: trials that chose from another pool are refused; None takes any.
        """
        self._pool = pool
        self._lock = threading.Lock()
        self._forget()

    def __getstate__(self) -> dict[str, Any]:
        """A copy begins with nothing read."""
        return {"_pool": self._pool}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """See `__getstate__`."""
        self.__init__(state["_pool"])  # type: ignore[misc]

    def _forget(self) -> None:
        self._seen = 0
        self._tail: list[FrozenTrial] = []  # that had not finished at the last read
        self._open: list[int] = []  # places of trials that were seen and not merged for good
        self._last: tuple[int, FrozenTrial] | None = None  # of those that were, with its place
        self._trials: dict[Candidate, list[FrozenTrial]] = {}
        self._known: dict[Candidate, CandidateHistory] = {}
        self._cleared: dict[Candidate | None, int] = {}
        # In order of their names, not of their trials: sums over candidates come out the same to
        # the last bit however many workers there were.
        self._order: list[Candidate] = []
        self._retries: list[FrozenTrial] = []

    def read(
        self,
        trials: Sequence[FrozenTrial],
        *,
        minimize: bool = False,
        exclude: int | None = None,
        gone: Collection[int] = (),
    ) -> History:
        """Merge the trials of a study.

        Args:
            trials: all of them, by number.
            minimize: whether the study reports errors instead of scores.
            exclude: number of a running trial to leave out: the one being sampled for.
            gone: numbers of running trials whose worker is taken for dead.

        Raises:
            SearchError: if a trial chose from another pool.
        """
        with self._lock:
            if len(trials) < self._seen or not self._is_same_study(trials):
                self._forget()
            self._take_finished(trials, minimize=minimize)
            self._tail = [trials[place] for place in self._open]
            tail = [trial for trial in self._tail if trial.number != exclude]
            return self._with(tail, minimize=minimize, gone=gone)

    def read_with(self, trial: FrozenTrial, *, minimize: bool = False) -> History:
        """The history as last read, with what one trial says now; asks the storage nothing."""
        with self._lock:
            tail = [open_ for open_ in self._tail if open_.number != trial.number]
            return self._with([*tail, trial], minimize=minimize, gone=())

    def _take_finished(self, trials: Sequence[FrozenTrial], *, minimize: bool) -> None:
        """Merge what has finished since the last time.

        Whatever is raised is raised before anything of this reader has changed.
        """
        places: dict[bool, list[int]] = {True: [], False: []}
        for n in (*self._open, *range(self._seen, len(trials))):
            places[trials[n].state.is_finished()].append(n)
        done = [trials[n] for n in places[True]]
        own = self._by_candidate(done)
        cleared = {**self._cleared, **_cleared_by(done)}
        again = own if cleared == self._cleared else {**dict.fromkeys(self._trials, []), **own}
        merged = {
            c: _merge([*self._trials.get(c, ()), *more], minimize=minimize, cleared=cleared)
            for c, more in again.items()
        }
        self._seen, self._open, self._cleared = len(trials), places[False], cleared
        self._last = (places[True][-1], done[-1]) if done else self._last
        for candidate, more in own.items():
            if candidate not in self._known:
                insort(self._order, candidate)
            self._trials.setdefault(candidate, []).extend(more)
        self._known.update(merged)

    def _is_same_study(self, trials: Sequence[FrozenTrial]) -> bool:
        if self._last is None:
            return True
        place, trial = self._last
        return trials[place] is trial

    def _with(
        self, tail: Iterable[FrozenTrial], *, minimize: bool, gone: Collection[int]
    ) -> History:
        """What is merged already, and the trials that may still change."""
        own = self._by_candidate(tail)
        known, order = self._known, self._order
        if own:
            merged = {
                c: _merge(
                    [*self._trials.get(c, ()), *more],
                    minimize=minimize,
                    cleared=self._cleared,
                    gone=gone,
                )
                for c, more in own.items()
            }
            known, new = {**known, **merged}, [c for c in merged if c not in known]
            order = list(order) if new else order
            for candidate in new:
                insort(order, candidate)
        return History({c: known[c] for c in order})

    def _by_candidate(self, trials: Iterable[FrozenTrial]) -> dict[Candidate, list[FrozenTrial]]:
        own: dict[Candidate, list[FrozenTrial]] = {}
        for trial in trials:
            candidate = candidate_of(trial)
            if candidate is None:
                continue
            if self._pool is not None and candidate not in self._trials:
                check_pool(trial, candidate, self._pool)
            own.setdefault(candidate, []).append(trial)
        return own


def check_pool(trial: FrozenTrial, candidate: Candidate, pool: Pool) -> None:
    """Make sure that a trial chose from a pool.

    Raises:
        SearchError: if it chose from another one.
    """
    for kind, name, names in (
        (VISION_ENCODER, candidate.vision_encoder, pool.vision_encoders),
        (LLM, candidate.llm, pool.llms),
    ):
        stored = getattr(trial.distributions.get(kind), "choices", names)
        if name not in names or tuple(stored) != tuple(names):
            raise SearchError(
                f"trial {trial.number} chose {kind} {name!r} out of {_listed(stored)}, and the "
                f"plan's pool has {_listed(names)}; a study keeps its pool: give the plan the "
                "study's own, in the same order, or begin a new study under another name"
            )


def _listed(names: Sequence[str], most: int = 12) -> str:
    shown = ", ".join(repr(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def candidate_of(trial: FrozenTrial) -> Candidate | None:
    """The candidate a trial tries; None until it is chosen.

    A trial that failed before it had asked for both parameters tried the pair it was asked for.
    """
    if PAIR in trial.user_attrs:
        return Candidate(*trial.user_attrs[PAIR])
    if VISION_ENCODER in trial.params and LLM in trial.params:
        return Candidate(trial.params[VISION_ENCODER], trial.params[LLM])
    if trial.state in (TrialState.RUNNING, TrialState.FAIL):
        mark = mark_of(trial)
        return mark.candidate if mark else None
    return None


def _further_parameters(trial: FrozenTrial) -> tuple[Parameter, ...]:
    return tuple(
        Parameter(name, trial.distributions[name], value)
        for name, value in sorted(trial.params.items())
        if name not in _PAIR_PARAMETERS
    )


def is_score(value: float) -> bool:
    """Whether a reported value can be a score, or an error: a number from 0 to 1."""
    return not math.isnan(value) and 0.0 <= value <= 1.0


def _cleared_by(trials: Iterable[FrozenTrial]) -> dict[Candidate | None, int]:
    """Trials up to which failures no longer count, by candidate; by None those of all."""
    cleared: dict[Candidate | None, int] = {}
    for trial in trials:
        pairs = trial.user_attrs.get(RETRY, ())
        whose = [None] if pairs == "all" else [Candidate(*pair) for pair in pairs]
        cleared.update(dict.fromkeys(whose, trial.number))
    return cleared


def _merge(
    trials: Sequence[FrozenTrial],
    *,
    minimize: bool,
    cleared: Mapping[Candidate | None, int],
    gone: Collection[int] = (),
) -> CandidateHistory:
    """All trials of one candidate."""
    trials = sorted(trials, key=lambda trial: trial.number)
    candidate = candidate_of(trials[0])
    since = max(cleared.get(None, -1), cleared.get(candidate, -1))
    counted = [trial for trial in trials if trial.number > since]
    failures = [(reason, t.number) for t in counted if (reason := _own_failure(t))]
    running = [t for t in trials if t.number not in gone and _is_running(t)]
    own = _one_configuration(trials)
    measurements = _measurements(own, minimize=minimize)
    top = measurements[-1].samples if measurements else 0
    return CandidateHistory(
        measurements=measurements,
        running=bool(running),
        granted=max((mark.samples for t in running if (mark := mark_of(t))), default=0),
        failures=len(failures),
        failure=failures[-1][0] if failures else None,
        last_failure=failures[-1][1] if failures else None,
        overruled=sum(_stopped_short(trial, top) for trial in counted),
        last_trial=max((t.number for t in own if t.intermediate_values), default=None),
        other_seconds=sum(_other_seconds(trial) for trial in trials),
        trained=sum(max(t.intermediate_values) for t in trials if _tells_no_seconds(t)),
        parameters=_further_parameters(own[0]) if measurements else (),
    )


def _own_failure(trial: FrozenTrial) -> str | None:
    """Why the pair failed; None where it did not, or it was not its fault after all."""
    return None if INTERRUPTED in trial.user_attrs else trial.user_attrs.get(FAILURE)


def _measurements(trials: Sequence[FrozenTrial], *, minimize: bool) -> tuple[Measurement, ...]:
    """Scores by ascending samples.

    The reports of those who measured come before those who repeated: a trial that was asked for
    earlier may have begun later, and repeats carry no details.
    """
    measured: dict[int, Measurement] = {}
    for repeated in (False, True):
        for trial in trials:
            details = trial.user_attrs.get(RUNGS, {})
            for samples, value in trial.intermediate_values.items():
                wanted = samples not in measured and (repeated or str(samples) in details)
                if wanted and is_score(value):
                    score = 1.0 - value if minimize else float(value)
                    measured[samples] = Measurement.from_json(
                        details.get(str(samples), {}),
                        samples=samples,
                        score=score,
                        answers=trial.system_attrs.get(f"{ANSWERS}:{samples}"),
                    )
    return tuple(measured[samples] for samples in sorted(measured))


def _one_configuration(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials whose further parameters are those of the trial that has come furthest."""
    told = [trial for trial in trials if trial.intermediate_values]
    if not told or not any(_further_parameters(trial) for trial in told):
        return told
    groups: dict[tuple[Parameter, ...], list[FrozenTrial]] = {}
    for trial in told:
        groups.setdefault(_further_parameters(trial), []).append(trial)
    return max(groups.values(), key=lambda own: max(max(t.intermediate_values) for t in own))


def _is_running(trial: FrozenTrial) -> bool:
    """Whether it runs, and not on a process of this machine that is no more."""
    if trial.state != TrialState.RUNNING:
        return False
    mark = mark_of(trial)
    return mark is None or not has_ended(mark.owner)


def _stopped_short(trial: FrozenTrial, top: int) -> bool:
    """Whether it ended, without a failure, before a rung it was asked for that nobody scored."""
    if trial.state not in (TrialState.PRUNED, TrialState.COMPLETE):
        return False
    mark = mark_of(trial)
    return mark is not None and mark.samples > top and STOOD_BACK not in trial.user_attrs


def _tells_no_seconds(trial: FrozenTrial) -> bool:
    """Whether it has finished with scores of a plain objective, which knows no costs."""
    told = trial.user_attrs.keys() & {RUNGS, CONTINUES, LOST_SECONDS}
    ended = trial.state in (TrialState.PRUNED, TrialState.COMPLETE)
    return ended and bool(trial.intermediate_values) and not told


def _other_seconds(trial: FrozenTrial) -> float:
    """Device-seconds that no measurement tells: of failures, and of plain objectives."""
    lost = float(trial.user_attrs.get(LOST_SECONDS, 0.0))
    if not _tells_no_seconds(trial) or trial.datetime_start is None:
        return lost
    assert trial.datetime_complete is not None
    return (trial.datetime_complete - trial.datetime_start).total_seconds()
