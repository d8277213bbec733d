"""The simulated clock: jobs of several workers overlap according to their lengths."""

from __future__ import annotations

import optuna
import pytest

from mordal_optuna.errors import SearchError
from mordal_optuna.replay.simulate import PlanSteering, Simulated, Simulation
from mordal_optuna.search.jobs import Wait
from mordal_optuna.search.sampler import CkaClusterSampler
from mordal_optuna.study.objective import Objective
from tests.search.synthetic import FULL, plan, search, table
from tests.studies import new_study


def simulate(workers: int, **options: int) -> Simulated:
    chosen, measure = plan(**options), table()
    study = new_study(chosen)
    objective = Objective(chosen, measure)
    return Simulation(study, objective, measure, PlanSteering(chosen), workers=workers).run()


def test_one_worker_runs_the_jobs_of_optimize_one_after_the_other() -> None:
    measure = table()
    search(plan(), measure)
    found = simulate(1)
    assert list(found.jobs) == measure.runs
    # each candidate's training up to its highest rung, at 100 samples a second, and 1 s a score
    tops = dict(measure.runs)
    assert found.seconds == pytest.approx(sum(tops.values()) / 100 + len(measure.runs))


def test_two_finalists_overlap_with_two_workers() -> None:
    alone, both = simulate(1, finalists=2), simulate(2, finalists=2)
    assert set(both.jobs) == set(alone.jobs)
    finish = (FULL - 1024) / 100 + 1
    assert alone.seconds - both.seconds > 0.9 * finish


def test_waiting_without_a_running_job_is_an_error() -> None:
    study = optuna.create_study(direction="maximize", sampler=CkaClusterSampler(plan()))
    simulation = Simulation(
        study, Objective(plan(), table()), table(), lambda _: Wait(), workers=2
    )
    with pytest.raises(SearchError, match="waits for a job although no job is running"):
        simulation.run()


def test_zero_workers_are_refused() -> None:
    with pytest.raises(SearchError, match="workers: got 0; it must be at least 1"):
        simulate(0)
