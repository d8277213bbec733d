"""History: trials are merged by candidate, by a reader that sees a study grow."""

from __future__ import annotations

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from mordal_optuna.search.attributes import CARRIED, DIED, FAILURE, INTERRUPTED, JOB, RUNGS
from mordal_optuna.search.curves import Measurement
from mordal_optuna.search.heartbeats import Assignment
from mordal_optuna.search.history import CandidateHistory, HistoryReader, read_history
from mordal_optuna.search.jobs import usable
from mordal_optuna.search.tasks import PartialMeasurement, weighted_mean
from tests.search.frozen import PAIR, trial


def test_other_trials_are_passed_over() -> None:
    study = optuna.create_study()
    study.optimize(lambda t: t.suggest_float("x", 0, 1), n_trials=2)
    history = read_history(study.trials)
    assert not history.candidates
    assert history.seconds == 0.0


def growing() -> list[list[FrozenTrial]]:
    """A study as seen from time to time: trials run, report, end; the second one ends last."""
    done = trial({8: 0.3}, number=0)
    early = trial({}, TrialState.RUNNING, number=1)
    later = trial({8: 0.3}, TrialState.RUNNING, number=1)
    ended = trial({8: 0.3, 16: 0.5}, number=1)
    third = trial({8: 0.3, 16: 0.5, 32: 0.6}, number=2)
    return [[done], [done, early], [done, later, third], [done, ended, third]]


def test_a_reader_that_has_seen_the_study_grow_reads_what_a_new_one_does() -> None:
    reader = HistoryReader()
    for trials in growing():
        running = [t.number for t in trials if not t.state.is_finished()]
        for exclude in (None, *running):
            seen = reader.read(trials, exclude=exclude)
            assert seen == HistoryReader().read(trials, exclude=exclude)
            without = [t for t in trials if t.number != exclude]
            assert seen == read_history(without)


def test_a_reader_that_is_given_another_study_forgets_the_first() -> None:
    reader = HistoryReader()
    reader.read(growing()[-1])
    other = [trial({8: 0.9}, number=0), trial({8: 0.9}, number=1), trial({8: 0.9}, number=2)]
    assert reader.read(other).of(PAIR).at(8) == read_history(other).of(PAIR).at(8)
    assert reader.read(other[:1]) == read_history(other[:1])


def test_the_order_of_candidates_does_not_depend_on_the_order_of_trials() -> None:
    def other(number: int) -> FrozenTrial:
        found = trial({8: 0.3}, number=number)
        found.params = {"vision_encoder": "dino", "llm": "qwen"}
        return found

    one = read_history([trial({8: 0.3}, number=0), other(1)])
    reader, trials = HistoryReader(), [other(0), trial({8: 0.3}, number=1)]
    reader.read(trials[:1])
    two = reader.read(trials)
    assert list(one.candidates) == list(two.candidates)


@pytest.mark.parametrize(("attempts", "usable_after"), [(1, 3), (2, 7)])
def test_a_candidate_whose_workers_die_again_and_again_is_given_up(
    attempts: int, usable_after: int
) -> None:
    """Counted since its newest score; so are the failures that a study allows."""
    died: dict[str, object] = {DIED: True, INTERRUPTED: "its worker m/1/x has ended"}

    def record(deaths: int, *, scored: bool = False) -> CandidateHistory:
        scores = {512: 0.5} if scored else {}
        trials = [trial({}, TrialState.FAIL, number=n, attributes=died) for n in range(deaths)]
        if scored:
            details = {RUNGS: {"512": {}}}
            trials.append(trial(scores, TrialState.FAIL, number=deaths, attributes=details))
        return HistoryReader(Tolerant(attempts)).read(trials).of(PAIR)

    assert usable(record(usable_after))
    given_up = record(usable_after + 1)
    assert not usable(given_up)
    assert given_up.failure
    assert f"died {usable_after + 1} times in a row" in given_up.failure
    assert usable(record(usable_after + 1, scored=True))
    failed: dict[str, object] = {FAILURE: "the loss is nan"}
    failures = [trial({}, TrialState.FAIL, number=n, attributes=failed) for n in range(attempts)]
    reader = HistoryReader(Tolerant(attempts))
    assert not usable(reader.read(failures).of(PAIR))
    assert usable(HistoryReader(Tolerant(attempts)).read(failures[1:]).of(PAIR))


class Tolerant:
    """The names of a pool, with the number of failures that its plan allows."""

    vision_encoders = ("clip", "dino")
    llms = ("llama", "qwen")

    def __init__(self, attempts: int) -> None:
        self.attempts = attempts


def partial_details(*tasks: str) -> dict[str, object]:
    rows = {task: Measurement(16, 0.5, 0.1, 9, 4.0, 2.0, train_spent=1.0) for task in tasks}
    return PartialMeasurement(16, rows).to_json()


def test_a_rung_with_some_tasks_is_known_and_has_no_score() -> None:
    """A later trial adds a task; the costs of all are counted once."""
    first = trial({8: 0.3}, number=0, attributes={RUNGS: {"16": partial_details("a")}})
    second = trial({8: 0.3}, number=1, attributes={RUNGS: {"16": partial_details("a", "b")}})
    record = read_history([first, second]).of(PAIR)
    assert [m.samples for m in record.measurements] == [8]
    assert (record.top, record.last_trial) == (16, 1)
    assert record.at(16) is None
    assert record.on_task("b", 16)
    assert record.on_task("c", 16) is None
    assert (record.train_spent, record.eval_spent) == (2.0, 4.0)
    assert read_history([first, second]).of_task("b").of(PAIR).at(16).score == 0.5
    assert read_history([first, second]).below(16).of(PAIR).top == 8


def test_details_of_a_score_that_was_not_reported_are_none_of_some_tasks() -> None:
    """The worker died in between."""
    rows = {"a": Measurement(16, 0.5), "b": Measurement(16, 0.5)}
    whole = weighted_mean(rows, {"a": 1.0, "b": 1.0})
    died = trial({8: 0.3}, number=0, attributes={RUNGS: {"16": whole.to_json()}})
    assert read_history([died]).of(PAIR).top == 8


def test_a_trial_that_scored_some_tasks_alone_counts_as_one_that_did_its_job() -> None:
    only = trial({}, number=0, attributes={RUNGS: {"16": partial_details("a")}})
    only.system_attrs = {JOB: Assignment(PAIR, 16, "worker", 0.0).stored()}
    record = read_history([only]).of(PAIR)
    assert (record.overruled, record.top) == (0, 16)
    carried = trial({}, number=1, attributes={RUNGS: {"16": partial_details("b")}, CARRIED: 7})
    assert read_history([only, carried]).of(PAIR).carried_partial == {(16, "b")}
