"""History: what the trials of a study say about each candidate, merged by candidate.

The storage is the one source of truth. A promoted candidate has several trials; each repeats the
scores known before it and adds its own, so merging takes the first report of every rung.
"""

from __future__ import annotations

import threading
from bisect import insort
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from optuna.trial import TrialState

from mordal_optuna.pool import Candidate
from mordal_optuna.search.curves import Measurement

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optuna.trial import FrozenTrial

VISION_ENCODER = "vision_encoder"
LLM = "llm"

# User attributes of a trial.
PAIR = "mordal:pair"
RUNGS = "mordal:rungs"
# Why the pair could not be trained or scored; counts against it.
FAILURE = "mordal:failure"
# What ended the trial that is not the pair's fault: a signal, a dead worker, an outage.
INTERRUPTED = "mordal:interrupted"
# Device-seconds that a trial spent without a score.
LOST_SECONDS = "mordal:lost_seconds"
# On a trial of its own: failures of earlier trials no longer count, of these pairs or of "all".
RETRY = "mordal:retry"
CONTINUES = "mordal:continues_trial"
ESTIMATE = "mordal:estimate"

# System attribute of a trial: the job it was asked for, with the "owner" that asked.
JOB = "mordal:job"


@dataclass(frozen=True)
class CandidateHistory:
    """What is known of one candidate.

    Attributes:
        measurements: scores by ascending samples.
        running: a trial of it is running.
        failures: trials of it that ended in a failure of their own (not interrupted ones).
        failure: reason of the newest such failure.
        overruled: trials, since its last new score, that some other pruner stopped before they
            had one. Counted for plain objectives, which retrain from the start each time.
        last_trial: number of the newest trial that reported a score; None without any.
    """

    measurements: tuple[Measurement, ...] = ()
    running: bool = False
    failures: int = 0
    failure: str | None = None
    overruled: int = 0
    last_trial: int | None = None

    @property
    def top(self) -> int:
        """Samples at the highest rung scored; 0 before the first."""
        return self.measurements[-1].samples if self.measurements else 0

    def at(self, samples: int) -> Measurement | None:
        """The score at a rung, if there is one."""
        return next((m for m in self.measurements if m.samples == samples), None)

    @property
    def seconds(self) -> float:
        """Device-seconds spent on it: training up to the highest rung, and every evaluation."""
        training = max((m.train_seconds for m in self.measurements), default=0.0)
        return training + sum(m.eval_seconds for m in self.measurements)


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


def read_history(trials: Sequence[FrozenTrial], *, minimize: bool = False) -> History:
    """Merge the trials of a study by candidate.

    Trials without both parameters (other studies' parameters, or not sampled yet) are passed
    over. A failed or pruned trial's scores count as well: they were measured.

    Args:
        trials: all trials of the study, in any order.
        minimize: whether the study reports errors, 1 - score, instead of scores.

    Raises:
        SearchError: if a reported value is not in 0..1.
    """
    return HistoryReader().read(sorted(trials, key=lambda t: t.number), minimize=minimize)


class HistoryReader:
    """Reads the history of a growing study without merging again what cannot change.

    Finished trials never change, so the leading run of them is merged once. This is a memory of
    the storage and not a state of the search: a new reader finds the same history.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._forget()

    def _forget(self) -> None:
        self._last: FrozenTrial | None = None
        self._count = 0
        self._trials: dict[Candidate, list[FrozenTrial]] = {}
        self._known: dict[Candidate, CandidateHistory] = {}
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
    ) -> History:
        """Merge the trials of a study.

        Args:
            trials: all of them, by number.
            minimize: whether the study reports errors instead of scores.
            exclude: number of a trial to leave out, such as the one being sampled for.

        Raises:
            SearchError: if a reported value is not in 0..1.
        """
        with self._lock:
            if self._last is not None and (
                len(trials) < self._count or trials[self._count - 1] is not self._last
            ):
                self._forget()  # another study
            self._take_finished(trials, exclude, minimize=minimize)
            tail = [t for t in trials[self._count :] if t.number != exclude]
            return self._with(tail, minimize=minimize)

    def _take_finished(
        self, trials: Sequence[FrozenTrial], exclude: int | None, *, minimize: bool
    ) -> None:
        changed: set[Candidate] = set()
        for trial in islice(trials, self._count, None):
            if not trial.state.is_finished() or trial.number == exclude:
                break
            self._count, self._last = self._count + 1, trial
            if RETRY in trial.user_attrs:
                self._retries.append(trial)
                changed |= self._trials.keys()
            candidate = candidate_of(trial)
            if candidate is not None:
                self._trials.setdefault(candidate, []).append(trial)
                changed.add(candidate)
        for candidate in changed:
            if candidate not in self._known:
                insort(self._order, candidate)
            self._known[candidate] = _merge(
                self._trials[candidate],
                cleared=_cleared(candidate, self._retries),
                minimize=minimize,
            )

    def _with(self, tail: Sequence[FrozenTrial], *, minimize: bool) -> History:
        """What is merged already, and the trials that may still change."""
        own: dict[Candidate, list[FrozenTrial]] = {}
        for trial in tail:
            candidate = candidate_of(trial)
            if candidate is not None:
                own.setdefault(candidate, []).append(trial)
        retries = [trial for trial in tail if RETRY in trial.user_attrs]
        if retries:
            own = {candidate: [] for candidate in self._trials} | own
        known, order = self._known, self._order
        if own:
            merged = {
                c: _merge(
                    [*self._trials.get(c, ()), *more],
                    cleared=_cleared(c, [*self._retries, *retries]),
                    minimize=minimize,
                )
                for c, more in own.items()
            }
            known, new = {**known, **merged}, [c for c in merged if c not in known]
            order = list(order) if new else order
            for candidate in new:
                insort(order, candidate)
        return History({c: known[c] for c in order})


def candidate_of(trial: FrozenTrial) -> Candidate | None:
    """The candidate a trial tries; None until both parameters are set."""
    if PAIR in trial.user_attrs:
        return Candidate(*trial.user_attrs[PAIR])
    if VISION_ENCODER not in trial.params or LLM not in trial.params:
        return None
    return Candidate(trial.params[VISION_ENCODER], trial.params[LLM])


def measurement_attributes(measurement: Measurement) -> dict[str, Any]:
    """What a trial stores of a score beside Optuna's own intermediate value."""
    always = ("stderr", "documents", "train_seconds", "eval_seconds")
    known = ("nll", "nll_stderr", "guessed")
    return {name: getattr(measurement, name) for name in always} | {
        name: value for name in known if (value := getattr(measurement, name)) is not None
    }


def _cleared(candidate: Candidate, retries: Sequence[FrozenTrial]) -> int:
    """Number of the newest trial that clears a candidate's failures; -1 without one."""
    pair = [candidate.vision_encoder, candidate.llm]
    return max(
        (t.number for t in retries if t.user_attrs[RETRY] == "all" or pair in t.user_attrs[RETRY]),
        default=-1,
    )


def _merge(trials: Sequence[FrozenTrial], *, cleared: int, minimize: bool) -> CandidateHistory:
    measured: dict[int, Measurement] = {}
    # The reports of those who measured, before those who repeated: a trial that was asked for
    # earlier may have begun later, and repeats carry no details.
    for repeated in (False, True):
        for trial in trials:
            details = trial.user_attrs.get(RUNGS, {})
            for samples, value in trial.intermediate_values.items():
                if samples not in measured and (repeated or str(samples) in details):
                    score = 1.0 - value if minimize else float(value)
                    stored = details.get(str(samples), {})
                    measured[samples] = Measurement(samples=samples, score=score, **stored)
    last_trial = max((t.number for t in trials if t.intermediate_values), default=None)
    failures = [
        trial.user_attrs[FAILURE]
        for trial in trials
        if FAILURE in trial.user_attrs
        and INTERRUPTED not in trial.user_attrs
        and trial.number > cleared
    ]
    return CandidateHistory(
        measurements=tuple(measured[samples] for samples in sorted(measured)),
        running=any(trial.state == TrialState.RUNNING for trial in trials),
        failures=len(failures),
        failure=failures[-1] if failures else None,
        overruled=_overruled([t for t in trials if t.number > cleared]),
        last_trial=last_trial,
    )


def _overruled(trials: Sequence[FrozenTrial]) -> int:
    top, count = 0, 0
    for trial in trials:
        last = max(trial.intermediate_values, default=0)
        if last > top:
            top, count = last, 0
        elif last and trial.state == TrialState.PRUNED and CONTINUES not in trial.user_attrs:
            count += 1
    return count
