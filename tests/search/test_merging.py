"""Merging the trials of a candidate: nothing measured is lost or counted twice."""

from __future__ import annotations

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from mordal_optuna.pool import Candidate
from mordal_optuna.search.attributes import (
    FAILURE,
    JOB,
    RUNGS,
    STOOD_BACK,
)
from mordal_optuna.search.heartbeats import Assignment
from mordal_optuna.search.history import read_history
from mordal_optuna.search.sampler import study_history
from tests.search.frozen import PAIR, details, trial
from tests.search.synthetic import ENCODERS, LLMS


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


def test_a_candidate_with_a_running_trial_is_running() -> None:
    assert read_history([trial({}, TrialState.RUNNING)]).of(PAIR).running
    assert not read_history([trial({})]).of(PAIR).running


def test_trials_of_a_pair_that_differ_in_a_further_parameter_are_not_one_curve() -> None:
    """The configuration that has come furthest stands for the pair."""
    study = optuna.create_study(direction="maximize")
    for rate, scores in ((1e-3, {256: 0.1}), (1e-4, {256: 0.3, 512: 0.5}), (1e-3, {1024: 0.2})):
        params = {"vision_encoder": "clip", "llm": "llama", "learning_rate": rate}
        study.enqueue_trial(params)
        trial = study.ask()
        trial.suggest_categorical("vision_encoder", ENCODERS)
        trial.suggest_categorical("llm", LLMS)
        trial.suggest_float("learning_rate", 1e-5, 1e-2)
        for samples, score in scores.items():
            trial.report(score, step=samples)
        study.tell(trial, state=TrialState.PRUNED)
        if rate == 1e-4:
            known = study_history(study).of(Candidate("clip", "llama"))
            assert [(m.samples, m.score) for m in known.measurements] == [(256, 0.3), (512, 0.5)]
    known = study_history(study).of(Candidate("clip", "llama"))
    assert [(m.samples, m.score) for m in known.measurements] == [(256, 0.1), (1024, 0.2)]
    assert [(p.name, p.value) for p in known.parameters] == [("learning_rate", 1e-3)]
