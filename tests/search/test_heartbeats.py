"""Assignments and heartbeats."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

import optuna
import pytest

from mordal_optuna.pool import Candidate
from mordal_optuna.search import heartbeats
from mordal_optuna.search.attributes import (
    ALIVE,
    JOB,
)
from mordal_optuna.search.clusters import ClusterTree
from mordal_optuna.search.heartbeats import (
    Assignment,
    HeartbeatMonitor,
    HeartbeatSender,
    assignment_of,
)
from mordal_optuna.search.methods.mordal import MordalPlan
from mordal_optuna.search.trials import (
    set_system_attribute,
)
from mordal_optuna.study.objective import Objective
from tests.search.plain import EVERY_RUNG, drawn, new_study

if TYPE_CHECKING:
    from collections.abc import Callable

    from mordal_optuna.search.curves import Measurement


PAIR = Candidate("clip", "llama")


def asked(study: optuna.Study) -> optuna.trial.FrozenTrial:
    trial = study.ask()
    return study.trials[trial.number]


def test_an_assignment_is_read_back_until_it_is_withdrawn() -> None:
    study = optuna.create_study()
    trial, mark = asked(study), Assignment(PAIR, 512, "m/1/a", 5.0)
    assert assignment_of(trial) is None
    set_system_attribute(study, trial, JOB, mark.stored())
    assert assignment_of(study.trials[0]) == mark
    set_system_attribute(study, trial, JOB, None)
    assert assignment_of(study.trials[0]) is None


def test_heartbeats_are_sent_for_running_trials_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeats, "HEARTBEAT_SECONDS", 0.05)
    study, pulse = optuna.create_study(), HeartbeatSender()
    kept, ended = asked(study), asked(study)
    pulse.begin(study, kept)
    pulse.begin(study, ended)
    assert pulse.is_of_this_thread(study, kept)
    pulse.end(study, ended)
    assert not pulse.is_of_this_thread(study, ended)
    time.sleep(0.5)
    assert ALIVE in study.trials[0].system_attrs
    assert ALIVE not in study.trials[1].system_attrs
    pulse.end(study, kept)


def test_heartbeats_survive_trials_that_begin_and_end_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Other threads change the set of running trials while heartbeats are stored."""
    monkeypatch.setattr(heartbeats, "HEARTBEAT_SECONDS", 0.05)
    study, sender = optuna.create_study(), HeartbeatSender()
    first, second = asked(study), asked(study)
    stored = []

    def store(_: object, trial: optuna.trial.FrozenTrial, key: str, value: float) -> None:
        stored.append(trial.number)
        sender.end(study, second)
        sender.begin(study, second)

    monkeypatch.setattr(heartbeats, "set_system_attribute", store)
    sender.begin(study, first)
    sender.begin(study, second)
    time.sleep(0.5)
    sender.end(study, first)
    sender.end(study, second)
    assert stored.count(first.number) > 1


def test_a_worker_without_heartbeats_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeats, "SILENCE_SECONDS", 0.1)
    study, watch = optuna.create_study(), HeartbeatMonitor()
    one, two = asked(study), asked(study)
    watch.observe([one, two])
    assert watch.silent == frozenset()
    time.sleep(0.15)
    set_system_attribute(study, two, ALIVE, 1.0)
    watch.observe(study.trials)
    assert watch.silent == {one.number}


def test_time_in_which_the_observer_was_stopped_is_no_silence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A suspended machine stops the observed worker as well; it gets its time to be heard."""
    clock = iter([0.0, 0.0, 7200.0, 7201.0, 7300.0, 7400.0, 7500.0])
    monkeypatch.setattr(heartbeats.time, "monotonic", lambda: next(clock))
    study, watch = optuna.create_study(), HeartbeatMonitor()
    trial = asked(study)
    seen = []
    for _ in range(6):
        watch.observe([trial])
        seen.append(bool(watch.silent))
    assert seen == [False, False, False, False, False, True]  # 0, 15, 16, 31, 46, 61 seconds


def two(names: tuple[str, str] = ("l0", "l1")) -> MordalPlan:
    """One encoder with two LLMs."""
    return MordalPlan(ClusterTree.flat(["e0"], names), EVERY_RUNG, 16384)


def test_a_silent_worker_is_waited_for_and_then_considered_dead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It marked its pair on another machine, and has said nothing since."""
    chosen, measure = two(), drawn(two(), 0)
    study = new_study(chosen)
    trial = study.ask()
    mark = heartbeats.Assignment(Candidate("e0", "l0"), 512, "elsewhere/1/a", time.time())
    study._storage.set_trial_system_attr(trial._trial_id, JOB, mark.stored())
    monkeypatch.setattr(heartbeats, "SILENCE_SECONDS", 0.5)
    start = time.perf_counter()
    study.optimize(Objective(chosen, measure))
    assert time.perf_counter() - start > 0.5
    assert measure.runs[0] == (Candidate("e0", "l1"), 512)
    assert Counter(measure.runs).total() == len(set(measure.runs)) == 7


@pytest.mark.slow
def test_a_worker_with_heartbeats_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its job takes far longer than silence may last; the other one trains what is left."""
    chosen, measure = two(), drawn(two(), 0)
    monkeypatch.setattr(heartbeats, "SILENCE_SECONDS", 1.0)
    monkeypatch.setattr(heartbeats, "HEARTBEAT_SECONDS", 0.1)
    storage, begun = optuna.storages.InMemoryStorage(), threading.Event()

    def slow(candidate: Candidate, samples: int) -> Measurement:
        begun.set()
        time.sleep(2.5 if samples == 512 else 0.0)
        return measure(candidate, samples)

    def work(own: Callable[[Candidate, int], Measurement]) -> None:
        study = new_study(chosen, study_name="s", storage=storage, load_if_exists=True)
        study.optimize(Objective(chosen, own))

    first = threading.Thread(target=work, args=(slow,))
    first.start()
    begun.wait()
    work(measure)
    first.join()
    assert Counter(measure.runs).total() == len(set(measure.runs)) == 7
