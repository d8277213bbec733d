"""Searches whose rungs are scored on some of several tasks: from the choice to the answer."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import optuna
import pytest
from optuna.trial import TrialState

from mordal_optuna.pool import Candidate
from mordal_optuna.replay.light import run_light
from mordal_optuna.search.attributes import RUNGS
from mordal_optuna.search.history import CandidateHistory, History
from mordal_optuna.search.jobs import Finished, Job
from mordal_optuna.search.joint.board import Move, Situation
from mordal_optuna.search.joint.choice import KnowledgeGradient
from mordal_optuna.search.joint.multitask import TaskModel
from mordal_optuna.search.methods.rounds import (
    carried_scores,
    is_complete,
    jobs_of_moves,
    lost,
    scores_of_moves,
)
from mordal_optuna.search.sampler import study_history
from tests.search.partly import SECONDS, WEIGHTS, TwoTasks, partly_plan, searched

TASKS = tuple(WEIGHTS)
PAIR = Candidate("v0", "m0")


def history(*tasks: str, samples: int = 1024, failures: int = 0) -> History:
    """One pair, scored at a rung on some tasks; none at all without a task."""
    partial = (TwoTasks().of_tasks(PAIR, samples, tasks),) if tasks else ()
    return History({PAIR: CandidateHistory(partial=partial, failures=failures)})


def test_a_move_is_left_to_do_on_the_tasks_without_a_score() -> None:
    (job,) = jobs_of_moves([Move(PAIR, (1024,))], history("cheap"), TASKS)
    assert job.tasks == ("dear",)
    (job,) = jobs_of_moves([Move(PAIR, (1024,))], history(), TASKS)
    assert job.tasks == ()  # all of them
    (job,) = jobs_of_moves([Move(PAIR, (1024,), (("dear",),))], history(), TASKS)
    assert job.tasks == ("dear",)
    assert is_complete([Move(PAIR, (1024,), (("cheap",),))], history("cheap"), TASKS)
    assert not is_complete([Move(PAIR, (1024,))], history("cheap"), TASKS)


def test_a_round_gives_the_scores_that_it_asked_for_alone() -> None:
    """Scores that a later round adds at the same rung are not among them."""
    both = history("cheap", "dear")
    rows = scores_of_moves([Move(PAIR, (1024,), (("dear",),))], both, TASKS)
    assert [(c, task) for c, task, _ in rows] == [(PAIR, "dear")]


def test_a_pair_that_lacks_a_task_is_lost_only_if_it_was_asked_for() -> None:
    failed = history("cheap", failures=2)
    assert lost([Move(PAIR, (1024,))], failed, TASKS) == {PAIR}
    assert not lost([Move(PAIR, (1024,), (("cheap",),))], failed, TASKS)


def test_what_was_carried_over_is_no_score_of_a_round() -> None:
    record = replace(
        history("cheap", "dear").of(PAIR), carried_partial=frozenset({(1024, "dear")})
    )
    held = History({PAIR: record})
    assert [task for _, task, _ in carried_scores(held, TASKS)] == ["dear"]
    rows = scores_of_moves([Move(PAIR, (1024,))], held, TASKS)
    assert [task for _, task, _ in rows] == ["cheap"]


@cache
def one_worker() -> tuple[optuna.Study, TwoTasks]:
    return searched()


def test_a_task_whose_scores_teach_little_for_their_cost_is_scored_less() -> None:
    """And the search for both tasks gets further than one that scores both everywhere."""
    measure = one_worker()[1]
    alone = [samples for _, samples, tasks in measure.asked if tasks == ("cheap",)]
    assert len(alone) > len([1 for *_, tasks in measure.asked if "dear" in tasks])
    whole = TwoTasks()
    history = run_light(partly_plan(partly=False), whole).history
    assert sum(alone) > 0
    trained = sum(r.top for r in study_history(one_worker()[0]).candidates.values())
    assert trained > sum(r.top for r in history.candidates.values())
    assert not any(r.partial for r in history.candidates.values())


def test_the_budget_is_kept_with_the_answers_scores() -> None:
    spent = study_history(one_worker()[0]).seconds
    assert spent <= 6 * 163.84 * 1.02


def test_the_answer_is_scored_on_all_tasks_at_its_highest_rung() -> None:
    """The budget ends with the start; then the leader has a score of one task further up."""
    plan = partly_plan(runs=2.5)
    found = run_light(plan, TwoTasks()).history
    assert isinstance(plan.jobs(found), Finished)
    leader = plan.winner(found)
    assert leader
    partial = (TwoTasks().of_tasks(leader, 4096, ("cheap",)),)
    further = replace(found.of(leader), partial=partial)
    open_again = History({**found.candidates, leader: further})
    assert plan.jobs(open_again) == [Job(leader, 4096, "answer", ("dear",))]
    lost_one = replace(further, failures=2)  # another pair answers then
    assert isinstance(plan.jobs(History({**found.candidates, leader: lost_one})), Finished)


def test_no_score_is_asked_for_twice() -> None:
    asked = [(c, n, t) for c, n, tasks in one_worker()[1].asked for t in tasks or TASKS]
    assert len(asked) == len(set(asked))


@pytest.mark.parametrize("workers", [3, 8])
def test_any_number_of_workers_makes_the_same_search(workers: int) -> None:
    found = study_history(searched(workers)[0])
    assert found.candidates.keys() == study_history(one_worker()[0]).candidates.keys()
    for candidate, record in study_history(one_worker()[0]).candidates.items():
        assert found.of(candidate).rungs == record.rungs
    assert partly_plan().ranking(found) == partly_plan().ranking(study_history(one_worker()[0]))


def test_a_replay_without_optuna_is_the_same_search() -> None:
    light, measure = run_light(partly_plan(), TwoTasks()).history, study_history(one_worker()[0])
    assert {c: r.rungs for c, r in light.candidates.items()} == {
        c: r.rungs for c, r in measure.candidates.items()
    }


def test_a_resumed_study_ends_in_the_same_scores() -> None:
    """After each trial, a new reader and a new plan see the same jobs as those that went on."""
    study = one_worker()[0]
    trials = [t for t in study.trials if t.state.is_finished()]
    for count in (len(trials) // 2, len(trials) - 1):
        again = optuna.create_study(direction="maximize")
        again.add_trials(trials[:count])
        jobs = partly_plan().jobs(study_history(again))
        assert not isinstance(jobs, Finished)
        after = {
            (c, m.samples, t)
            for c, r in study_history(study).candidates.items()
            for m in r.rungs
            for t in m.by_task
        }
        assert all((j.candidate, j.samples, t) in after for j in jobs for t in j.tasks or TASKS)


def test_a_rung_that_lacks_a_task_is_no_report_and_has_its_details() -> None:
    study = one_worker()[0]
    partial = [
        (t, int(samples), details)
        for t in study.trials
        for samples, details in t.user_attrs.get(RUNGS, {}).items()
        if details.get("partial")
    ]
    assert partial
    for trial, samples, details in partial:
        assert samples not in trial.intermediate_values
        assert details["tasks"].keys() < WEIGHTS.keys()
        assert trial.state == TrialState.PRUNED
    costs = sum(r.eval_seconds for r in study_history(study).candidates.values())
    asked = [t for *_, tasks in one_worker()[1].asked for t in tasks or TASKS]
    assert costs == pytest.approx(sum(SECONDS[task] for task in asked))


def test_rounds_of_several_tasks_are_chosen_by_the_process_of_all() -> None:
    """Only models that share their scores are handed to the choice."""
    seen: list[Situation] = []

    class Recording(KnowledgeGradient):
        def __call__(self, situation: Situation, size: int) -> list[Move]:
            seen.append(situation)
            return super().__call__(situation, size)

    run_light(partly_plan(3.0, partly=False, choice=Recording()), TwoTasks())
    assert len(seen) > 1
    assert all(isinstance(t.model, TaskModel) for one in seen for t in one.targets)
