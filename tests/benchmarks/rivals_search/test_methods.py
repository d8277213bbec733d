"""Every method of the table can be replayed, and on a study it runs as without one."""

from __future__ import annotations

import optuna
import pytest

from benchmarks.rivals_search.methods import METHODS
from benchmarks.rivals_search.problem import Problem
from mordal_optuna.replay.light import run_light
from mordal_optuna.replay.simulate import Simulation
from mordal_optuna.replay.synthetic import synthetic_grid
from mordal_optuna.search.sampler import study_history
from mordal_optuna.study.objective import Objective

RIVALS = [m.name for m in METHODS.values() if m.needs == "nothing"]


def problem(runs: float | None = 2.0, *, side: int = 4) -> Problem:
    grid = synthetic_grid(2, encoders=side, llms=side)
    others = [synthetic_grid(n, encoders=side, llms=side) for n in (3, 4, 5)]
    return Problem(grid, others, runs, seed=1)


@pytest.mark.parametrize("name", [m.name for m in METHODS.values() if m.needs != "a study"])
@pytest.mark.parametrize("workers", [1, 3])
def test_on_a_study_a_method_runs_as_without_one(name: str, workers: int) -> None:
    """With one worker the same jobs in the same order; with several it ends as well."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    given = problem()
    setup = METHODS[name].set_up(given)
    study = optuna.create_study(direction="maximize", sampler=setup.sampler, pruner=setup.pruner)
    simulated = Simulation(
        study,
        Objective(setup.plan, given.grid.measurement),
        given.grid.measurement,
        setup.steering,
        workers=workers,
    ).run()
    light = run_light(METHODS[name].set_up(given).plan, given.grid)
    if workers == 1:
        assert simulated.jobs == light.simulated.jobs
    assert setup.plan.winner(study_history(study)) in given.grid.candidates


@pytest.mark.parametrize("name", RIVALS)
def test_a_limit_holds_for_every_method_that_takes_one(name: str) -> None:
    method, given = METHODS[name], problem(2.0)
    setup = method.set_up(given)
    spent = run_light(setup.plan, given.grid).history.seconds + setup.before.total
    if method.limited:
        # Our methods end with the job that crosses the limit, here at most half a run.
        assert spent < 2.6 * given.grid.full_run_seconds


@pytest.mark.parametrize("name", ["asha-2", "oboe", "oboe-tasks"])
def test_rivals_that_compare_no_models_pay_for_none(name: str) -> None:
    assert METHODS[name].set_up(problem()).before.total == 0


def test_seeds_change_the_order_of_random_methods() -> None:
    grid = synthetic_grid(2)
    jobs = {
        run_light(METHODS["asha-2"].set_up(Problem(grid, (), 1.0, seed)).plan, grid).simulated.jobs
        for seed in range(3)
    }
    assert len(jobs) == 3
