"""History: trials are merged by candidate, and nothing measured is lost or counted twice."""

from __future__ import annotations

import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from mordal_optuna.pool import Candidate
from mordal_optuna.search.attributes import FAILURE, JOB, RUNGS, STOOD_BACK
from mordal_optuna.search.heartbeats import Assignment
from mordal_optuna.search.history import HistoryReader, read_history

PAIR = Candidate("clip", "llama")


def trial(
    scores: dict[int, float],
    state: TrialState = TrialState.PRUNED,
    *,
    number: int = 0,
    attributes: dict[str, object] | None = None,
) -> FrozenTrial:
    frozen = create_trial(
        state=state,
        value=1.0 if state == TrialState.COMPLETE else None,
        params={"vision_encoder": "clip", "llm": "llama"},
        distributions={
            "vision_encoder": CategoricalDistribution(["clip", "dino"]),
            "llm": CategoricalDistribution(["llama", "qwen"]),
        },
        intermediate_values=scores,
        user_attrs=attributes or {},
    )
    frozen.number = number
    return frozen


def details(train: float, evaluation: float) -> dict[str, object]:
    return {"stderr": 0.1, "documents": 9, "train_seconds": train, "eval_seconds": evaluation}


def test_a_promoted_candidate_costs_each_rung_once() -> None:
    """The second trial repeats rung 8 at no cost and adds rung 16."""
    first = trial({8: 0.3}, number=0, attributes={RUNGS: {"8": details(10.0, 1.0)}})
    second = trial({8: 0.3, 16: 0.5}, number=1, attributes={RUNGS: {"16": details(22.0, 1.0)}})
    known = read_history([second, first]).of(PAIR)
    assert [m.samples for m in known.measurements] == [8, 16]
    assert known.measurements[0].stderr == 0.1
    assert known.seconds == pytest.approx(22.0 + 2.0)
    assert known.last_trial == 1


def test_details_come_from_the_trial_that_measured_not_from_one_that_repeats() -> None:
    """Trial 0 was asked for first but began after trial 1 and repeated its score."""
    repeats = trial({8: 0.3}, number=0)
    measures = trial({8: 0.3}, number=1, attributes={RUNGS: {"8": details(10.0, 1.0)}})
    known = read_history([repeats, measures]).of(PAIR)
    assert known.measurements[0].stderr == 0.1
    assert known.seconds == pytest.approx(11.0)


def test_scores_of_failed_trials_count_and_interruptions_are_no_failures() -> None:
    interrupted = trial({8: 0.3}, TrialState.FAIL)
    broken = trial({}, TrialState.FAIL, number=1, attributes={FAILURE: "loss is nan"})
    known = read_history([interrupted, broken]).of(PAIR)
    assert known.top == 8
    assert known.failures == 1
    assert known.failure == "loss is nan"


def asked(
    scores: dict[int, float], samples: int, number: int, **attributes: object
) -> FrozenTrial:
    """A pruned trial that the plan had asked for up to a rung."""
    stopped = trial(scores, number=number, attributes=attributes)
    mark = Assignment(PAIR, samples, "elsewhere/1/a", 0.0)
    stopped.system_attrs = {JOB: mark.stored()}
    return stopped


def test_stops_before_the_rung_that_was_asked_for_are_counted_until_it_is_scored() -> None:
    stops = [asked({8: 0.3}, 16, number) for number in range(3)]
    assert read_history(stops).of(PAIR).overruled == 3
    further = trial({8: 0.3, 16: 0.5}, number=3)
    assert read_history([*stops, further]).of(PAIR).overruled == 0


def test_stops_that_the_plan_agrees_with_are_not_counted() -> None:
    """Trials that no plan asked for, such as TPE's, and those that came as far as they were."""
    unasked = [trial({8: 0.3}, number=number) for number in range(5)]
    assert read_history(unasked).of(PAIR).overruled == 0
    reached = [asked({8: 0.3}, 8, number) for number in range(5)]
    assert read_history(reached).of(PAIR).overruled == 0
    aside = [asked({}, 8, number, **{STOOD_BACK: True}) for number in range(5)]
    assert read_history(aside).of(PAIR).overruled == 0


def test_running_trials_mark_their_candidate() -> None:
    assert read_history([trial({}, TrialState.RUNNING)]).of(PAIR).running
    assert not read_history([trial({})]).of(PAIR).running


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
