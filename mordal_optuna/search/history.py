"""The history of a study: all measurements and failures of every candidate, read from its trials.

The storage is the only source of truth. How the trials of one candidate are merged is described in
`merging`.
"""

from __future__ import annotations

import threading
from bisect import insort
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from optuna.trial import TrialState

from mordal_optuna.pool import Candidate
from mordal_optuna.search.attributes import PAIR
from mordal_optuna.search.heartbeats import assignment_of
from mordal_optuna.search.merging import (
    carried_partial,
    carried_samples,
    deaths_since_score,
    failure_of,
    further_parameters,
    is_running,
    last_cleared_trials,
    merged_measurements,
    merged_partial,
    other_seconds,
    reports_no_costs,
    scored_samples,
    stopped_short,
    trials_of_one_configuration,
)
from mordal_optuna.search.space import LLM, VISION_ENCODER, check_pool

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from optuna.trial import FrozenTrial

    from mordal_optuna.search.curves import Measurement
    from mordal_optuna.search.merging import Parameter
    from mordal_optuna.search.space import PoolNames
    from mordal_optuna.search.tasks import PartialMeasurement


# A candidate is given up after so many failures, unless a study says otherwise, since one failure
# may be transient; and after so many trials that another pruner or the objective stopped before
# the rung that the plan had asked for.
ATTEMPTS = 2
# A worker's death may be the machine's fault, so it counts less than a failure.
DEATHS_PER_ATTEMPT = 4


@dataclass(frozen=True)
class CandidateHistory:
    """All measurements and failures of a candidate.

    Attributes:
        measurements: scores by ascending samples; of several tasks, those of rungs that are scored
            on all tasks.
        running: whether a trial of the candidate is running.
        granted: highest rung that a running trial was asked for, in samples; 0 if none runs.
        failures: trials that failed because of the candidate; interrupted trials do not count.
        failure: reason of the newest failure, or else of the newest death; None without any.
        deaths: trials since the newest score whose worker died while it trained the candidate.
        attempts: number of failures after which the candidate is given up.
        last_failure: number of the trial with the newest failure; None without failures.
        overruled: trials that another pruner or the objective stopped before the rung that the
            plan had asked for, counted only while that rung has no score.
        last_trial: number of the newest trial that reported a score; None without scores.
        other_seconds: device-seconds that are in no measurement: those lost by failed trials, and
            the duration of trials whose objective reports no costs.
        trained: samples trained on by trials whose objective reports no costs, in total.
        parameters: parameters other than the pair, of the trials that were merged.
        carried: rungs, in samples, whose scores were carried over from the study that this one
            extends; they were known before its first trial.
        partial: scores at rungs that are scored on some of several tasks, by ascending samples.
        carried_partial: rung, in samples, and task of the scores in partial ones that were carried
            over.
    """

    measurements: tuple[Measurement, ...] = ()
    running: bool = False
    granted: int = 0
    failures: int = 0
    failure: str | None = None
    last_failure: int | None = None
    deaths: int = 0
    attempts: int = ATTEMPTS
    overruled: int = 0
    last_trial: int | None = None
    other_seconds: float = 0.0
    trained: int = 0
    parameters: tuple[Parameter, ...] = ()
    carried: frozenset[int] = frozenset()
    partial: tuple[PartialMeasurement, ...] = ()
    carried_partial: frozenset[tuple[int, str]] = frozenset()

    @property
    def rungs(self) -> tuple[Measurement | PartialMeasurement, ...]:
        """The scores of all rungs by ascending samples, whether on all tasks or on some."""
        if not self.partial:
            return self.measurements
        return tuple(sorted((*self.measurements, *self.partial), key=lambda m: m.samples))

    @property
    def top(self) -> int:
        """Samples at the highest rung with a score, on any task; 0 without scores."""
        return highest(self.measurements, self.partial)

    def at(self, samples: int) -> Measurement | None:
        """The score at a rung, on all tasks; None if the rung has no such score."""
        return next((m for m in self.measurements if m.samples == samples), None)

    def partial_at(self, samples: int) -> PartialMeasurement | None:
        """The scores at a rung on some tasks; None if it has none, or has those of all tasks."""
        return next((m for m in self.partial if m.samples == samples), None)

    def on_task(self, task: str, samples: int) -> Measurement | None:
        """The score at a rung on one task; None if the rung has no score on it.

        Args:
            task: name of the task; empty for the score on all tasks.
            samples: number of alignment samples at the rung.
        """
        if not task:
            return self.at(samples)
        scored = self.at(samples) or self.partial_at(samples)
        return scored.by_task.get(task) if scored else None

    @property
    def train_seconds(self) -> float:
        """Device-seconds of training from the start up to the highest rung."""
        return max((m.train_seconds for m in self.rungs), default=0.0)

    @property
    def eval_seconds(self) -> float:
        """Device-seconds of the evaluations at all rungs."""
        return sum(m.eval_seconds for m in self.rungs)

    @property
    def train_spent(self) -> float:
        """Device-seconds of training that this study spent, without reused checkpoints."""
        spent, before = 0.0, 0.0
        for m in self.rungs:
            step = m.train_seconds - before if m.train_spent is None else m.train_spent
            spent, before = spent + max(step, 0.0), max(before, m.train_seconds)
        return spent

    @property
    def eval_spent(self) -> float:
        """Device-seconds of evaluation that this study spent, without reused scores."""
        return sum(m.eval_seconds if m.eval_spent is None else m.eval_spent for m in self.rungs)

    @property
    def seconds(self) -> float:
        """Device-seconds spent on the candidate, failed trials included, reused results not."""
        return self.train_spent + self.eval_spent + self.other_seconds


_EMPTY = CandidateHistory()


@dataclass(frozen=True)
class History:
    """The measurements and failures of a study.

    Attributes:
        candidates: history of every candidate with at least one trial.
    """

    candidates: Mapping[Candidate, CandidateHistory] = field(default_factory=dict)

    def of(self, candidate: Candidate) -> CandidateHistory:
        """The history of a candidate; empty if it has no trial."""
        return self.candidates.get(candidate, _EMPTY)

    def below(self, samples: int) -> History:
        """The same history without the scores at `samples` or above."""
        cut = {
            candidate: replace(
                record,
                measurements=tuple(m for m in record.measurements if m.samples < samples),
                partial=tuple(m for m in record.partial if m.samples < samples),
            )
            for candidate, record in self.candidates.items()
        }
        return History(cut)

    def of_task(self, name: str) -> History:
        """The history of one task of a study with several: the same candidates, its own scores.

        Scores without a measurement of the task are left out. Costs are the task's own evaluation
        and its share of the training; what failed trials lost belongs to no task.

        Args:
            name: name of the task.
        """
        own = {
            candidate: replace(
                record,
                measurements=tuple(m.by_task[name] for m in record.rungs if name in m.by_task),
                partial=(),
                other_seconds=0.0,
                trained=0,
            )
            for candidate, record in self.candidates.items()
        }
        return History(own)

    @property
    def seconds(self) -> float:
        """Device-seconds spent so far on all candidates."""
        return sum(record.seconds for record in self.candidates.values())


def read_history(trials: Sequence[FrozenTrial], *, minimize: bool = False) -> History:
    """Merge the trials of a study by candidate.

    Trials without both parameters (those of other studies, or not sampled yet) are ignored. The
    scores of failed and pruned trials count as well, since they were measured. A reported value
    outside 0..1 is left out.

    Args:
        trials: all trials of the study, in any order.
        minimize: whether the study reports errors, 1 - score, instead of scores.
    """
    return HistoryReader().read(sorted(trials, key=lambda t: t.number), minimize=minimize)


class HistoryReader:
    """Reads the history of a growing study; finished trials are merged once.

    The reader is a cache of the storage and no state of the search: a new reader reads the same
    history.
    """

    def __init__(self, pool: PoolNames | None = None) -> None:
        """Create a reader that has read nothing.

        Args:
            pool: pool of the study; trials that chose from another pool are refused. None accepts
                any pool.
        """
        self._pool = pool
        self._attempts = getattr(pool, "attempts", ATTEMPTS)  # plans say so, pools do not
        self._lock = threading.Lock()
        self._reset()

    def __getstate__(self) -> dict[str, Any]:
        """A copy starts with nothing read."""
        return {"_pool": self._pool}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """See `__getstate__`."""
        self.__init__(state["_pool"])  # type: ignore[misc]

    def _reset(self) -> None:
        self._seen = 0  # trials read so far
        self._unfinished: list[FrozenTrial] = []  # trials that had not finished at the last read
        self._open: list[int] = []  # indices of the trials that are not merged for good
        self._last: tuple[int, FrozenTrial] | None = None  # last merged trial with its index
        self._trials: dict[Candidate, list[FrozenTrial]] = {}
        self._records: dict[Candidate, CandidateHistory] = {}
        self._cleared: dict[Candidate | None, int] = {}
        # By candidate name and not by trial, so that sums over candidates agree to the last bit
        # however many workers ran.
        self._order: list[Candidate] = []

    def read(
        self,
        trials: Sequence[FrozenTrial],
        *,
        minimize: bool = False,
        exclude: int | None = None,
        dead: Collection[int] = (),
    ) -> History:
        """Merge the trials of a study.

        Args:
            trials: all trials of the study, by number.
            minimize: whether the study reports errors, 1 - score, instead of scores.
            exclude: number of a running trial to leave out, such as the one being sampled for.
            dead: numbers of running trials whose worker is considered dead.

        Raises:
            SearchError: if a trial chose from another pool.
        """
        with self._lock:
            if len(trials) < self._seen or not self._is_same_study(trials):
                self._reset()
            self._merge_finished(trials, minimize=minimize)
            self._unfinished = [trials[index] for index in self._open]
            unfinished = [trial for trial in self._unfinished if trial.number != exclude]
            return self._with(unfinished, minimize=minimize, dead=dead)

    def read_with(self, trial: FrozenTrial, *, minimize: bool = False) -> History:
        """The history as last read, with one trial replaced by its present state.

        Does not access the storage.
        """
        with self._lock:
            others = [other for other in self._unfinished if other.number != trial.number]
            return self._with([*others, trial], minimize=minimize, dead=())

    def _merge_finished(self, trials: Sequence[FrozenTrial], *, minimize: bool) -> None:
        """Merge the trials that have finished since the last read.

        Anything that raises does so before the reader has changed.
        """
        indices: dict[bool, list[int]] = {True: [], False: []}
        for n in (*self._open, *range(self._seen, len(trials))):
            indices[trials[n].state.is_finished()].append(n)
        finished = [trials[n] for n in indices[True]]
        new = self._by_candidate(finished)
        cleared = {**self._cleared, **last_cleared_trials(finished)}
        changed = new if cleared == self._cleared else {**dict.fromkeys(self._trials, []), **new}
        merged = {
            c: self._merged(c, more, minimize=minimize, cleared=cleared)
            for c, more in changed.items()
        }
        self._seen, self._open, self._cleared = len(trials), indices[False], cleared
        self._last = (indices[True][-1], finished[-1]) if finished else self._last
        for candidate, more in new.items():
            if candidate not in self._records:
                insort(self._order, candidate)
            self._trials.setdefault(candidate, []).extend(more)
        self._records.update(merged)

    def _is_same_study(self, trials: Sequence[FrozenTrial]) -> bool:
        if self._last is None:
            return True
        index, trial = self._last
        # The same trial may have been read twice, by `get_trials` and by `tell`.
        return trials[index] is trial or trials[index] == trial

    def _with(
        self, unfinished: Iterable[FrozenTrial], *, minimize: bool, dead: Collection[int]
    ) -> History:
        """The history of the merged trials together with unfinished ones."""
        by_candidate = self._by_candidate(unfinished)
        records, order = self._records, self._order
        if by_candidate:
            merged = {
                c: self._merged(c, more, minimize=minimize, cleared=self._cleared, dead=dead)
                for c, more in by_candidate.items()
            }
            records, new = {**records, **merged}, [c for c in merged if c not in records]
            order = list(order) if new else order
            for candidate in new:
                insort(order, candidate)
        return History({c: records[c] for c in order})

    def _merged(
        self,
        candidate: Candidate,
        more: Sequence[FrozenTrial],
        *,
        minimize: bool,
        cleared: Mapping[Candidate | None, int],
        dead: Collection[int] = (),
    ) -> CandidateHistory:
        """The history of one candidate, from its merged trials and more."""
        trials = [*self._trials.get(candidate, ()), *more]
        record = _merge(trials, minimize=minimize, cleared=cleared, dead=dead)
        return replace(record, attempts=self._attempts)

    def _by_candidate(self, trials: Iterable[FrozenTrial]) -> dict[Candidate, list[FrozenTrial]]:
        by_candidate: dict[Candidate, list[FrozenTrial]] = {}
        for trial in trials:
            candidate = candidate_of(trial)
            if candidate is None:
                continue
            if self._pool is not None and candidate not in self._trials:
                check_pool(trial, candidate, self._pool)
            by_candidate.setdefault(candidate, []).append(trial)
        return by_candidate


def candidate_of(trial: FrozenTrial) -> Candidate | None:
    """The candidate of a trial; None before it is chosen.

    For a running trial, and for one that failed before its objective had asked for both
    parameters, this is the pair that the trial was assigned.
    """
    if PAIR in trial.user_attrs:
        return Candidate(*trial.user_attrs[PAIR])
    if VISION_ENCODER in trial.params and LLM in trial.params:
        return Candidate(trial.params[VISION_ENCODER], trial.params[LLM])
    if trial.state in (TrialState.RUNNING, TrialState.FAIL):
        assignment = assignment_of(trial)
        return assignment.candidate if assignment else None
    return None


def highest(measurements: Sequence[Measurement], partial: Sequence[PartialMeasurement]) -> int:
    """Samples at the highest rung with a score, on all tasks or on some; 0 without scores."""
    return max((rows[-1].samples for rows in (measurements, partial) if rows), default=0)


def _died(reasons: Sequence[str]) -> str | None:
    """What is said of a candidate whose workers died while they trained it."""
    if not reasons:
        return None
    return f"its worker died {len(reasons)} times in a row while training it; last: {reasons[-1]}"


def _merge(
    trials: Sequence[FrozenTrial],
    *,
    minimize: bool,
    cleared: Mapping[Candidate | None, int],
    dead: Collection[int] = (),
) -> CandidateHistory:
    """The history of one candidate, from all of its trials."""
    trials = sorted(trials, key=lambda trial: trial.number)
    candidate = candidate_of(trials[0])
    since = max(cleared.get(None, -1), cleared.get(candidate, -1))
    counted = [trial for trial in trials if trial.number > since]
    failures = [(reason, t.number) for t in counted if (reason := failure_of(t))]
    died = deaths_since_score(counted)
    running = [t for t in trials if is_running(t, dead)]
    merged = trials_of_one_configuration(trials)
    measurements = merged_measurements(merged, minimize=minimize)
    partial = merged_partial(merged, {m.samples for m in measurements})
    top = highest(measurements, partial)
    return CandidateHistory(
        measurements=measurements,
        running=bool(running),
        granted=max((a.samples for t in running if (a := assignment_of(t))), default=0),
        failures=len(failures),
        failure=failures[-1][0] if failures else _died(died),
        last_failure=failures[-1][1] if failures else None,
        deaths=len(died),
        overruled=sum(stopped_short(trial, top) for trial in counted),
        last_trial=max((t.number for t in merged if scored_samples(t)), default=None),
        other_seconds=sum(other_seconds(trial) for trial in trials),
        trained=sum(max(t.intermediate_values) for t in trials if reports_no_costs(t)),
        parameters=further_parameters(merged[0]) if measurements or partial else (),
        carried=carried_samples(merged),
        partial=partial,
        carried_partial=carried_partial(merged),
    )
