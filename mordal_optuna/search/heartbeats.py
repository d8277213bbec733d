"""Assignments and heartbeats: which pair a running trial trains, and whether its worker is alive.

Optuna stores parameters only when the objective asks for them, one by one. An assignment is stored
as soon as a pair is chosen, so that every other worker sees which pairs are taken, up to which
rung, and by which process.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from optuna.exceptions import UpdateFinishedTrialError

from mordal_optuna.pool import Candidate
from mordal_optuna.processes.liveness import has_ended
from mordal_optuna.search.attributes import ALIVE, JOB
from mordal_optuna.search.trials import set_system_attribute, storage_errors

if TYPE_CHECKING:
    from collections.abc import Iterable

    from optuna.study import Study
    from optuna.trial import FrozenTrial

# Interval of heartbeats, and the time without one after which waiting workers consider a worker
# dead.
HEARTBEAT_SECONDS = 15.0
SILENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Assignment:
    """The job that a trial was given.

    Attributes:
        candidate: the pair.
        samples: rung up to which the plan asked for the trial; 0 if no plan did.
        owner: process that runs the trial, see `mordal_optuna.processes.liveness.owner_name`.
        begun: begin of the trial by the owner's clock, in seconds since 1970.
    """

    candidate: Candidate
    samples: int
    owner: str
    begun: float

    def stored(self) -> dict[str, Any]:
        """The JSON value that is stored with the trial."""
        pair = [self.candidate.vision_encoder, self.candidate.llm]
        return {"pair": pair, "samples": self.samples, "owner": self.owner, "begun": self.begun}


def assignment_of(trial: FrozenTrial) -> Assignment | None:
    """The assignment of a trial; None if it has none or withdrew it."""
    stored = trial.system_attrs.get(JOB)
    if not stored:
        return None
    pair = Candidate(*stored["pair"])
    return Assignment(pair, stored["samples"], stored["owner"], stored["begun"])


def competitors(trials: Iterable[FrozenTrial], candidate: Candidate, owner: str) -> list[int]:
    """Numbers of the trials that processes other than one were assigned the same pair for.

    Args:
        trials: running trials.
        candidate: the pair.
        owner: process that is none of its own competitors.
    """
    return [
        trial.number
        for trial in trials
        if (assignment := assignment_of(trial))
        and assignment.candidate == candidate
        and assignment.owner != owner
        and not has_ended(assignment.owner)
    ]


# Number of a running trial, its last heartbeat, its count of scores, its count of parameters.
_State: TypeAlias = "tuple[int, float | None, int, int]"


class HeartbeatMonitor:
    """Observes whether the workers of other running trials are alive, by this process's clock.

    Only time that this process observed counts as silence: at most one interval of heartbeats
    between two observations. A machine that was suspended, or a process that was stopped, would
    otherwise take the pairs of workers that were stopped with it.
    """

    def __init__(self) -> None:
        """Observe no trial yet."""
        self._silence: dict[_State, float] = {}
        self._last = time.monotonic()

    def observe(self, trials: Iterable[FrozenTrial]) -> None:
        """Record the present state of the running trials.

        Args:
            trials: the trials that run now.
        """
        now = time.monotonic()
        passed, self._last = min(now - self._last, HEARTBEAT_SECONDS), now
        silence = self._silence
        self._silence = {
            state: silence[state] + passed if state in silence else 0.0
            for state in map(_state_of, trials)
        }

    @property
    def silent(self) -> frozenset[int]:
        """Numbers of the trials that were seen unchanged for `SILENCE_SECONDS`."""
        return frozenset(
            state[0] for state, seconds in self._silence.items() if seconds >= SILENCE_SECONDS
        )


def _state_of(trial: FrozenTrial) -> _State:
    """The number of a running trial, and everything that changes while its worker is alive."""
    alive = trial.system_attrs.get(ALIVE)
    return trial.number, alive, len(trial.intermediate_values), len(trial.params)


class HeartbeatSender:
    """Stores heartbeats for the running trials of this process, from a background thread.

    A trial counts as alive as long as the thread that began it.
    """

    def __init__(self) -> None:
        """Send no heartbeats yet."""
        self._lock = threading.Lock()
        self._trials: dict[tuple[str, int], _Running] = {}
        self._thread: threading.Thread | None = None

    def begin(self, study: Study, trial: FrozenTrial) -> None:
        """Send heartbeats for a trial that the calling thread runs."""
        running = _Running(study, trial, threading.current_thread())
        with self._lock:
            self._trials[study.study_name, trial.number] = running
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=self._send, name="mordal-heartbeat", daemon=True
                )
                self._thread.start()

    def end(self, study: Study, trial: FrozenTrial) -> None:
        """Stop the heartbeats of a trial."""
        with self._lock:
            self._trials.pop((study.study_name, trial.number), None)

    def is_of_this_thread(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether the calling thread began a trial."""
        with self._lock:
            running = self._trials.get((study.study_name, trial.number))
        return running is not None and running.thread is threading.current_thread()

    def _send(self) -> None:
        while True:
            time.sleep(HEARTBEAT_SECONDS)
            with self._lock:
                self._trials = {key: r for key, r in self._trials.items() if r.thread.is_alive()}
                if not self._trials:
                    self._thread = None
                    return
                alive = list(self._trials.values())  # other threads begin and end trials meanwhile
            for running in alive:
                try:
                    set_system_attribute(running.study, running.trial, ALIVE, time.time())
                except UpdateFinishedTrialError:
                    self.end(running.study, running.trial)  # another worker has ended it
                except storage_errors():
                    continue  # the storage may be reachable at the next heartbeat


@dataclass(frozen=True)
class _Running:
    study: Study
    trial: FrozenTrial
    thread: threading.Thread
