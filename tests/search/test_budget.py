"""The budget: what is reserved, what counts as spent, and when it ends the search."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from mordal_optuna.search.attributes import STOPPED_BECAUSE
from mordal_optuna.search.budget import Budget
from mordal_optuna.search.curves import Measurement
from mordal_optuna.search.history import CandidateHistory, History
from mordal_optuna.search.jobs import Finished, Wait
from mordal_optuna.search.plan import may_continue, next_job
from mordal_optuna.search.sampler import study_history
from tests.search.plain import drawn, flat, new_study, readme_objective
from tests.search.synthetic import MEDOIDS, plan, search, table

if TYPE_CHECKING:
    from mordal_optuna.search.methods.mordal import MordalPlan


A, B, C = MEDOIDS[:3]


def budgeted(hours: float) -> MordalPlan:
    return plan(budget=Budget(hours))


def told(
    samples: int, seconds: float, *, granted: int = 0, other: float = 0.0
) -> CandidateHistory:
    """Scored at the lowest rung; running on, if something was granted."""
    score = Measurement(samples, 0.5, train_seconds=seconds, eval_seconds=0.0)
    return CandidateHistory((score,), bool(granted), granted, other_seconds=other)


def test_running_jobs_are_reserved_at_what_the_pool_has_taken_so_far() -> None:
    """256 samples took 100 seconds, so that a job to 1,024 takes 300 more, and one to 512 100."""
    spent = told(256, 100.0)
    history = History({A: spent, B: told(256, 100.0, granted=1024), C: CandidateHistory()})
    assert budgeted(501 / 3600).has_room(history)
    assert not budgeted(500 / 3600).has_room(history)
    assert budgeted(201 / 3600).has_room(history, besides=B)
    assert next_job(budgeted(500 / 3600), history) == Wait()
    # A trial that has come as far as it was asked for may be on its way to the next rung.
    further = History({A: spent, B: told(256, 100.0, granted=256)})
    assert budgeted(301 / 3600).has_room(further)
    assert not budgeted(300 / 3600).has_room(further)


def test_until_the_first_cost_is_known_one_job_runs_at_a_time() -> None:
    running = History({A: CandidateHistory(running=True, granted=256)})
    assert not budgeted(100.0).has_room(running)
    assert budgeted(100.0).has_room(History())
    assert plan().has_room(running)  # without a budget there is nothing to keep


def test_failed_and_lost_seconds_are_spent() -> None:
    spent = History({A: told(256, 100.0, other=50.0)})
    assert budgeted(151 / 3600).has_room(spent)
    assert isinstance(budgeted(150 / 3600).jobs(spent), Finished)


def test_a_job_that_was_begun_is_finished_whatever_the_budget() -> None:
    spent = History({A: told(256, 100.0, granted=1024)})
    assert may_continue(budgeted(1 / 3600), spent, A, 512)
    assert not may_continue(budgeted(1 / 3600), spent, A, 1024)


def test_the_budget_stops_the_search() -> None:
    """What was spent before the first trial counts."""
    for before in (0.0, 6.0):
        study = search(plan(budget=Budget(10 / 3600, before)), table())
        assert study.user_attrs[STOPPED_BECAUSE].startswith("budget spent")
        assert 10 <= before + study_history(study).seconds < 20


def test_a_plain_study_keeps_its_budget_by_the_time_its_trials_took() -> None:
    """Objectives that tell no seconds are charged from begin to end."""
    chosen = flat(2, budget=Budget(device_hours=0.5 / 3600))
    study = new_study(chosen)
    start = time.perf_counter()
    study.optimize(readme_objective(chosen, drawn(chosen, 0), seconds=0.1))
    assert 0.5 <= time.perf_counter() - start < 2.0
    assert study.user_attrs[STOPPED_BECAUSE].startswith("budget spent")
