"""The driver without Optuna finds exactly what the real sampler and pruner find."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from benchmarks.minigrid.light import run_light
from benchmarks.minigrid.methods import light_replay
from mordal_optuna.config import SearchSettings
from mordal_optuna.errors import SearchError
from mordal_optuna.replay.judging import judge
from mordal_optuna.replay.run import BUDGETED, METHODS, replay, set_up
from mordal_optuna.replay.stock import STOCK
from mordal_optuna.replay.synthetic import synthetic_grid

PLANS = [method for method in METHODS if method not in STOCK]


@pytest.mark.parametrize("method", PLANS)
@pytest.mark.parametrize("seed", [0, 3])
def test_everything_is_equal(method: str, seed: int) -> None:
    """Ranking to the last bit, costs, rungs, reason; only sums of seconds may round otherwise."""
    grid = synthetic_grid(seed, encoders=5, llms=5)
    budget = 2.5 if method in BUDGETED else None
    real = replay(grid, method, seed=seed, budget=budget)
    light = light_replay(grid, method, seed=seed, budget=budget)
    assert light.elapsed_seconds == pytest.approx(real.elapsed_seconds)
    same = {"elapsed_seconds": 0.0}
    groups = {"held": None, "tied": None}  # asked of replays alone
    assert asdict(light) | same == asdict(real) | same | groups


@pytest.mark.parametrize(
    "options",
    [
        {"top_clusters": 1, "max_ratio": 0.5},
        {"vision_threshold": 1, "llm_threshold": 1, "finalists": 3},
        {"fit_points": 2, "eta": 4, "max_ratio": 0.125, "finalists": 0},
    ],
)
def test_settings_change_both_alike(options: dict) -> None:
    grid = synthetic_grid(1, encoders=5, llms=5)
    settings = SearchSettings.model_validate({"method": "mordal", **options})
    real = replay(grid, "mordal", settings=settings)
    setup = set_up(grid, "mordal", settings, 0, None)
    found = run_light(setup.plan, grid)
    light = judge(grid, "mordal", 0, 1, setup, found.history, found.simulated)
    assert light.ranking == real.ranking
    assert light.cost == real.cost
    assert light.rungs_run == real.rungs_run


def test_a_plan_that_waits_for_nobody_is_an_error() -> None:
    grid = synthetic_grid(1, encoders=3, llms=3)
    plan = set_up(grid, "optuna-tpe-none", SearchSettings(), 0, None).plan
    with pytest.raises(SearchError, match="waits for jobs that nobody runs"):
        run_light(plan, grid)
