"""Replays: the real search against a known grid, judged against its truth."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from scipy import stats

from mordal_optuna.config import SearchSettings
from mordal_optuna.errors import ConfigError, GridError
from mordal_optuna.pool import Candidate
from mordal_optuna.replay import run
from mordal_optuna.replay.run import METHODS, method_settings, replay
from mordal_optuna.replay.stock import stock_sampler
from mordal_optuna.replay.synthetic import synthetic_grid
from tests.replay.grids import without_costs

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

    from mordal_optuna.replay.grid import Grid
    from mordal_optuna.replay.stock import StockPlan


@pytest.fixture(scope="module")
def grid() -> Grid:
    return synthetic_grid(0, encoders=4, llms=4)


def test_the_grid_is_the_truth_and_costs_one(grid: Grid) -> None:
    found = replay(grid, "grid")
    assert found.regret == 0
    assert found.tau == pytest.approx(1.0)
    assert found.gain == pytest.approx(1.0)
    assert found.gain_projected == pytest.approx(1.0)
    assert found.full_runs == pytest.approx(16)
    assert found.rungs_run == 16
    assert {e.provenance for e in found.ranking} == {"measured"}
    best = max(grid.candidates, key=grid.truth)
    assert grid.truth(Candidate(*found.picked)) == grid.truth(best)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_ranks_the_whole_pool_and_adds_up(grid: Grid, method: str) -> None:
    found = replay(grid, method, seed=1)
    assert {e.candidate for e in found.ranking} == set(grid.candidates)
    truths = [grid.truth(e.candidate) for e in found.ranking]
    values = [e.value for e in found.ranking]
    assert found.regret == pytest.approx(max(truths) - grid.truth(Candidate(*found.picked)))
    ranks_nobody = len(set(values)) == 1
    tau = 0.0 if ranks_nobody else stats.weightedtau(values, truths).statistic
    assert found.tau == pytest.approx(tau)
    assert ranks_nobody is (method == "popular")
    assert found.gain == pytest.approx(grid.grid_seconds / found.cost.total)
    assert found.full_runs == pytest.approx(16 / found.gain)
    assert found.stopped_because


def test_the_same_seed_gives_the_same_bytes(grid: Grid) -> None:
    for method in ("mordal", "random", "optuna-tpe-hyperband"):
        first, second = (replay(grid, method, seed=3, workers=3) for _ in range(2))
        assert json.dumps(first.to_json()) == json.dumps(second.to_json())


def test_any_number_of_workers_finds_the_same_and_faster(grid: Grid) -> None:
    alone, many = replay(grid, "mordal"), replay(grid, "mordal", workers=4)
    assert many.ranking == alone.ranking
    assert many.cost.total == pytest.approx(alone.cost.total)
    assert many.rungs_run == alone.rungs_run
    assert many.elapsed_seconds < 0.6 * alone.elapsed_seconds
    assert alone.elapsed_seconds == pytest.approx(alone.cost.training + alone.cost.evaluation)


def test_costs_of_comparing_are_the_files(grid: Grid) -> None:
    """One vision cluster: the warm-ups of its medoid alone are paid."""
    settings = SearchSettings.model_validate({"method": "mordal", "vision_threshold": -1})
    found = replay(grid, "mordal", settings=settings)
    rows = [
        sum(grid.warmup(Candidate(encoder, llm)) for llm in grid.llms) for encoder in grid.encoders
    ]
    assert any(found.cost.warmup == pytest.approx(row) for row in rows)
    assert found.cost.features == grid.feature_seconds
    assert replay(grid, "all-at-ratio").cost.warmup == 0


def test_popular_costs_one_run_and_best_parts_at_most_a_row_a_column_and_one_more() -> None:
    grid = synthetic_grid(1, encoders=4, llms=3)
    popular, parts = replay(grid, "popular"), replay(grid, "best-parts")
    first = next(c for c in grid.curves if c.encoder == grid.encoders[0] and c.llm == grid.llms[0])
    assert popular.picked == (first.encoder, first.llm)
    assert popular.cost.training == first.train_seconds[-1]
    assert popular.cost.evaluation == first.eval_seconds[-1]
    assert parts.rungs_run in (4 + 3 - 1, 4 + 3)
    assert parts.cost.warmup == parts.cost.features == 0
    assert parts.regret <= popular.regret


def test_a_budget_in_full_runs_is_kept_but_for_the_job_under_way(grid: Grid) -> None:
    found = replay(grid, "random", budget=2.5)
    assert 2.5 <= found.full_runs < 2.5 + 2
    assert found.stopped_because.startswith("budget spent")


@pytest.mark.parametrize("method", ["grid", "random", "all-at-ratio", "mordal"])
def test_a_budget_counts_what_runs(grid: Grid, method: str) -> None:
    """Eight workers, of which one alone could spend 2 full runs at once.

    What a job takes is known from those before it only, and differs by pair.
    """
    eight = replay(grid, method, budget=2.0, workers=8)
    assert eight.stopped_because.startswith("budget spent")
    assert 2.0 <= eight.full_runs < 4.0


@pytest.mark.parametrize("method", METHODS)
def test_a_budget_is_the_same_at_any_number_of_workers(grid: Grid, method: str) -> None:
    """Stock Optuna's trials climb on once they have begun, so all of that is counted first."""
    alone, eight = (replay(grid, method, budget=3.0, workers=workers) for workers in (1, 8))
    whole = [grid.measurements(candidate) for candidate in grid.candidates]
    most = max(rungs[-1].train_seconds + sum(m.eval_seconds for m in rungs) for rungs in whole)
    dearest = most / grid.full_run_seconds
    for found in (alone, eight):
        if found.stopped_because.startswith("budget spent") and method != "joint":
            assert 3.0 <= found.full_runs < 3.0 + dearest
        else:  # the search ended by itself, or plans its last round to fit
            assert found.full_runs < 3.0
    assert eight.elapsed_seconds <= alone.elapsed_seconds


def test_the_budget_that_mordal_sets_is_that_of_one_worker(grid: Grid) -> None:
    ours = replay(grid, "mordal").full_runs
    for workers in (1, 8):
        given = replay(grid, "random", budget=ours, workers=workers)
        assert replay(grid, "random", workers=workers).full_runs == given.full_runs


def test_hyperband_gives_each_seed_its_own_brackets(
    grid: Grid, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It draws them from the study's name; here the seed changes nothing else."""

    def of_one_seed(name: str, plan: StockPlan, *, seed: int) -> BaseSampler:  # noqa: ARG001
        return stock_sampler(name, plan, seed=0)

    monkeypatch.setattr(run, "stock_sampler", of_one_seed)
    found = [replay(grid, "optuna-random-hyperband", seed=seed, budget=4.0) for seed in range(3)]
    assert len({one.rungs_run for one in found}) > 1
    plain = [replay(grid, "optuna-random-none", seed=seed, budget=4.0) for seed in range(3)]
    assert len({one.rungs_run for one in plain}) == 1


def test_a_budget_cannot_be_kept_where_the_file_knows_no_costs(grid: Grid) -> None:
    free = without_costs(grid)
    for method, budget in (("random", None), ("optuna-tpe-median", None), ("mordal", 2.0)):
        with pytest.raises(GridError, match="lists no costs .*, so no budget can be kept"):
            replay(free, method, budget=budget)


def test_rivals_without_a_budget_get_what_mordal_spends(grid: Grid) -> None:
    ours = replay(grid, "mordal")
    stock = replay(grid, "optuna-random-none")
    assert ours.full_runs <= stock.full_runs < ours.full_runs + 2


def test_the_faithful_preset_is_the_faithful_method(grid: Grid) -> None:
    preset = method_settings("mordal", "faithful")
    assert preset == method_settings("mordal-faithful")
    assert (
        replay(grid, "mordal", settings=preset).ranking == replay(grid, "mordal-faithful").ranking
    )
    assert replay(grid, "mordal").ranking != replay(grid, "mordal-faithful").ranking


def test_unknown_methods_and_impossible_budgets_are_refused(grid: Grid) -> None:
    with pytest.raises(ConfigError, match="--method: got 'best'; allowed are mordal,"):
        replay(grid, "best")
    with pytest.raises(ConfigError, match="--budget: got 0"):
        replay(grid, "mordal", budget=0)


def test_a_rung_that_the_file_lacks_is_named(grid: Grid) -> None:
    settings = SearchSettings.model_validate({"method": "mordal", "first_ratio": 0.01})
    with pytest.raises(GridError, match="at 256 samples was asked for; the file has 512"):
        replay(grid, "mordal", settings=settings)
