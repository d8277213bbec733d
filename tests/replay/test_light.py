"""Replays without Optuna give the same results as the real sampler and pruner."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import pytest

from mordal_optuna.config import SearchSettings
from mordal_optuna.errors import SearchError
from mordal_optuna.replay.judging import judge
from mordal_optuna.replay.light import run_light
from mordal_optuna.replay.run import (
    BUDGETED,
    METHODS,
    method_settings,
    replay,
    set_up,
)
from mordal_optuna.replay.stock import STOCK
from mordal_optuna.replay.synthetic import synthetic_grid

if TYPE_CHECKING:
    from mordal_optuna.replay.grid import Grid
    from mordal_optuna.replay.judging import Replay, SetUp

PLANS = [method for method in METHODS if method not in STOCK]


def light_replay(grid: Grid, method: str, setup: SetUp, seed: int) -> Replay:
    search = run_light(setup.plan, grid)
    return judge(grid, method, seed, 1, setup, search.history, search.simulated, groups=False)


@pytest.mark.parametrize("method", PLANS)
@pytest.mark.parametrize("seed", [0, 3])
def test_everything_is_equal(method: str, seed: int) -> None:
    """Ranking (bit-identical), costs, rungs and reason; sums of seconds may differ in rounding."""
    grid = synthetic_grid(seed, encoders=5, llms=5)
    budget = 2.5 if method in BUDGETED else None
    real = replay(grid, method, seed=seed, budget=budget)
    setup = set_up(grid, method, method_settings(method), seed, budget)
    light = light_replay(grid, method, setup, seed)
    assert light.elapsed_seconds == pytest.approx(real.elapsed_seconds)
    same = {"elapsed_seconds": 0.0}
    groups = {"held": None, "tied": None}  # not computed without Optuna
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
    light = light_replay(grid, "mordal", setup, 0)
    assert light.ranking == real.ranking
    assert light.cost == real.cost
    assert light.rungs_run == real.rungs_run


def test_a_plan_that_waits_for_nobody_is_an_error() -> None:
    grid = synthetic_grid(1, encoders=3, llms=3)
    plan = set_up(grid, "optuna-tpe-none", SearchSettings(), 0, None).plan
    with pytest.raises(SearchError, match="waits for jobs that no worker runs"):
        run_light(plan, grid)
