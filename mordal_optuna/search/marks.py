"""Marks: what a running trial was asked for, stored with it as soon as its pair is chosen.

Parameters reach the storage only when the objective asks for them, one by one; a mark is there
before. So every other worker sees which pairs are taken, up to which rung, and by whom.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from optuna.exceptions import UpdateFinishedTrialError

from mordal_optuna.pool import Candidate
from mordal_optuna.search.attributes import ALIVE, JOB
from mordal_optuna.search.trials import set_system_attribute, storage_errors

if TYPE_CHECKING:
    from collections.abc import Iterable

    from optuna.study import Study
    from optuna.trial import FrozenTrial

# A worker says so often that it lives. One that is silent for `SILENCE_SECONDS` is taken for dead
# by whoever waits for it.
PULSE_SECONDS = 15.0
SILENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Mark:
    """What a trial was asked for.

    Attributes:
        candidate: the pair.
        samples: rung up to which it is wanted; 0 where no plan asked for the trial.
        owner: who runs it, see `mordal_optuna.processes.liveness.owner_name`.
        begun: seconds since 1970 by the owner's clock.
    """

    candidate: Candidate
    samples: int
    owner: str
    begun: float

    def stored(self) -> dict[str, Any]:
        """Plain values."""
        pair = [self.candidate.vision_encoder, self.candidate.llm]
        return {"pair": pair, "samples": self.samples, "owner": self.owner, "begun": self.begun}


def mark_of(trial: FrozenTrial) -> Mark | None:
    """The mark of a trial; None where it has none, or gave it back."""
    stored = trial.system_attrs.get(JOB)
    if not stored:
        return None
    return Mark(Candidate(*stored["pair"]), stored["samples"], stored["owner"], stored["begun"])


_Sign: TypeAlias = "tuple[int, float | None, int, int]"


class Watch:
    """Whether the workers of other running trials give signs of life, by this process's clock."""

    def __init__(self) -> None:
        """Nobody is watched yet."""
        self._since: dict[_Sign, float] = {}

    def look(self, trials: Iterable[FrozenTrial]) -> None:
        """See which signs are new.

        Args:
            trials: those that are running now.
        """
        now = time.monotonic()
        self._since = {sign: self._since.get(sign, now) for sign in map(_sign, trials)}

    @property
    def silent(self) -> frozenset[int]:
        """Numbers of the trials that have given no sign for `SILENCE_SECONDS`."""
        now = time.monotonic()
        return frozenset(
            sign[0] for sign, since in self._since.items() if now - since >= SILENCE_SECONDS
        )


def _sign(trial: FrozenTrial) -> _Sign:
    """The number of a running trial, and what changes while its worker lives."""
    alive = trial.system_attrs.get(ALIVE)
    return trial.number, alive, len(trial.intermediate_values), len(trial.params)


class Pulse:
    """Gives signs of life of the trials of this process, from a thread of its own.

    A trial lives as long as the thread that it was begun in.
    """

    def __init__(self) -> None:
        """Give none yet."""
        self._lock = threading.Lock()
        self._trials: dict[tuple[str, int], _Begun] = {}
        self._thread: threading.Thread | None = None

    def begin(self, study: Study, trial: FrozenTrial) -> None:
        """Speak for a trial from now on, which this thread runs."""
        begun = _Begun(study, trial, threading.current_thread())
        with self._lock:
            self._trials[study.study_name, trial.number] = begun
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=self._speak, name="mordal-pulse", daemon=True
                )
                self._thread.start()

    def end(self, study: Study, trial: FrozenTrial) -> None:
        """Speak for it no more."""
        with self._lock:
            self._trials.pop((study.study_name, trial.number), None)

    def is_of_this_thread(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether a trial was begun here, in the thread that asks."""
        with self._lock:
            begun = self._trials.get((study.study_name, trial.number))
        return begun is not None and begun.thread is threading.current_thread()

    def _speak(self) -> None:
        while True:
            time.sleep(PULSE_SECONDS)
            with self._lock:
                living = {k: b for k, b in self._trials.items() if b.thread.is_alive()}
                self._trials = living
                if not living:
                    self._thread = None
                    return
            for begun in living.values():
                try:
                    set_system_attribute(begun.study, begun.trial, ALIVE, time.time())
                except UpdateFinishedTrialError:
                    self.end(begun.study, begun.trial)  # another worker has ended it
                except storage_errors():
                    continue  # the storage may be back at the next beat


@dataclass(frozen=True)
class _Begun:
    study: Study
    trial: FrozenTrial
    thread: threading.Thread
