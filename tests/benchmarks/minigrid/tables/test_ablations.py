"""Each variant changes what it says, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from benchmarks.minigrid.tables.ablations import (
    LastScoreRanker,
    Variant,
    WindowRanker,
    run_variant,
    variants,
)
from benchmarks.minigrid.tables.bootstrap import Resampler, full_data
from benchmarks.minigrid.tables.curves import MAIN_SCHEDULE, compare_rules, compare_schedules
from benchmarks.minigrid.tables.methods import figures, light_judged, light_replay
from mordal_optuna.replay.light import run_light
from mordal_optuna.replay.metrics import weighted_tau
from mordal_optuna.replay.run import method_settings, pool_tree
from mordal_optuna.replay.synthetic import synthetic_grid
from mordal_optuna.search.clusters import ClusterTree
from mordal_optuna.search.curves import Measurement, fit_log_linear, pooled_run_noise
from mordal_optuna.search.history import CandidateHistory, History
from mordal_optuna.search.plan import PooledPlan
from mordal_optuna.search.ranking import Ranker

if TYPE_CHECKING:
    from benchmarks.minigrid.tables.data import TaskData
    from mordal_optuna.replay.grid import Grid


@pytest.fixture(scope="module")
def named() -> dict[str, Variant]:
    return {variant.name: variant for variant in variants()}


@pytest.fixture(scope="module")
def grid() -> Grid:
    return synthetic_grid(2, encoders=7, llms=7)


def whole(grid: Grid, ratio: float) -> History:
    """Every pair scored on all rungs up to a ratio."""
    rungs = [n for n in grid.curves[0].samples if n <= ratio * grid.full_samples]
    known = {
        c: CandidateHistory(tuple(grid.measurement(c, n) for n in rungs)) for c in grid.candidates
    }
    return History(known)


def test_names_are_unique_and_the_default_comes_first(named: dict[str, Variant]) -> None:
    assert len(named) == len(variants())
    assert next(iter(named)) == "default"


def test_the_default_is_the_products_search(
    tasks: tuple[TaskData, ...], named: dict[str, Variant]
) -> None:
    data = tasks[0]
    seen, whole = Resampler(data).replicate(0), full_data(data)
    found = run_variant(data, named["default"], [seen])
    on_all = light_replay(data.grid, "mordal", truths=whole.truth)
    assert found.figures == figures(on_all, whole, whole)
    again = light_replay(seen.grid, "mordal", seed=1, draws=10, truths=seen.truth)
    assert found.replicates[0] == figures(again, seen, whole)


@pytest.mark.slow
def test_every_variant_runs(tasks: tuple[TaskData, ...], named: dict[str, Variant]) -> None:
    for variant in named.values():
        found = run_variant(tasks[0], variant, [])
        assert -1 <= (found.figures["tau"] or 0) <= 1


def test_without_clustering_nothing_is_compared(
    tasks: tuple[TaskData, ...], named: dict[str, Variant]
) -> None:
    setup = named["without clustering"].set_up(tasks[0])
    grid = tasks[0].grid
    found = light_judged(grid, "x", setup)
    assert found.cost.features == found.cost.warmup == 0
    assert found.cost_projected.warmup == 0
    lowest = grid.curves[0].samples[0]
    history = run_light(setup.plan, grid).history
    assert all(history.of(c).at(lowest) for c in grid.candidates)  # each stands for itself


def test_without_early_stopping_every_medoid_goes_up_to_the_largest_ratio(
    tasks: tuple[TaskData, ...], named: dict[str, Variant]
) -> None:
    for data in tasks:
        tree = pool_tree(data.grid, method_settings("mordal"))
        ratio = data.grid.full_samples // 16
        history = run_light(named["without early stopping"].set_up(data).plan, data.grid).history
        assert all(history.of(cluster.medoid).at(ratio) for cluster in tree.clusters)


def test_before_is_the_preset_without_a_race_and_without_a_least_likeness(
    tasks: tuple[TaskData, ...], named: dict[str, Variant]
) -> None:
    for data in tasks:
        full = data.grid.full_samples
        setup = named["before"].set_up(data)
        history = run_light(setup.plan, data.grid).history
        assert setup.plan.rungs == (full // 32, full // 16, full // 8, full)
        assert sum(known.top == full for known in history.candidates.values()) == 1
        curves = sum(len(known.measurements) >= 3 for known in history.candidates.values())
        assert curves == sum(known.top >= full // 8 for known in history.candidates.values()) > 1
        assert setup.before.warmup <= named["default"].set_up(data).before.warmup
        assert {fit.run_noise for fit in setup.plan.ranker.fits(history).values()} == {0}


def test_a_race_of_the_tied_leaves_out_who_is_told_from_the_leader(
    named: dict[str, Variant], tasks: tuple[TaskData, ...]
) -> None:
    setup = named["a race of the tied alone"].set_up(tasks[0])
    plan, everyone = setup.plan, named["default"].set_up(tasks[0]).plan
    assert isinstance(plan, PooledPlan)
    assert isinstance(everyone, PooledPlan)
    scores = [0.9, 0.3, 0.3, 0.3]
    pairs = tasks[0].grid.candidates[: len(scores)]
    clear = History(
        {
            pair: CandidateHistory(
                tuple(Measurement(n, score, 0.001, 500) for n in plan.rungs[:2])
            )
            for pair, score in zip(pairs, scores, strict=True)
        }
    )
    assert plan.finish_candidates(clear) == pairs[:1]
    assert set(everyone.finish_candidates(clear)) == set(pairs)
    assert plan.finish_candidates(History()) == ()


def test_every_pair_at_r_compares_and_drops_nobody(
    tasks: tuple[TaskData, ...], named: dict[str, Variant]
) -> None:
    setup, grid = named["every pair at R, then the race"].set_up(tasks[0]), tasks[0].grid
    history = run_light(setup.plan, grid).history
    assert setup.before.total == 0
    assert all(history.of(c).at(grid.full_samples // 16) for c in grid.candidates)
    assert max(history.of(c).top for c in grid.candidates) < grid.full_samples


def test_the_last_score_is_the_estimate(grid: Grid) -> None:
    ranker = LastScoreRanker(ClusterTree.flat(grid.encoders, grid.llms), grid.full_samples)
    history = whole(grid, 0.125)
    for estimate in ranker.rank_trained(history):
        last = history.of(estimate.candidate).measurements[-1]
        assert estimate.value == pytest.approx(last.score)


def test_window_and_shrinkage_as_in_the_product_are_the_product(grid: Grid) -> None:
    tree, history = ClusterTree.flat(grid.encoders, grid.llms), whole(grid, 0.5)
    ours = Ranker(tree, grid.full_samples)
    assert WindowRanker(tree, grid.full_samples).fits(history) == ours.fits(history)


def test_windows_are_what_they_say(grid: Grid) -> None:
    tree, history = ClusterTree.flat(grid.encoders, grid.llms), whole(grid, 0.5)
    candidate = grid.candidates[0]
    points = history.of(candidate).measurements
    for window, used in (("all", points), ("last", points[-3:])):
        ranker = WindowRanker(tree, grid.full_samples, window=window, shrink=False, runs=False)
        assert ranker.fits(history)[candidate] == fit_log_linear(used)
    noisy = WindowRanker(tree, grid.full_samples, window="all", shrink=False).fits(history)
    noise = pooled_run_noise([known.measurements for known in history.candidates.values()])
    assert noisy[candidate] == fit_log_linear(points, run_noise=noise)
    shrunk = WindowRanker(tree, grid.full_samples, window="all").fits(history)
    plain = WindowRanker(tree, grid.full_samples, window="all", shrink=False).fits(history)
    assert np.std([f.slope for f in shrunk.values()]) < np.std([f.slope for f in plain.values()])


def test_other_similarities_change_the_clusters_alone(
    tasks: tuple[TaskData, ...], named: dict[str, Variant]
) -> None:
    """Plain CKA is higher everywhere: at the paper's thresholds its clusters are fewer."""
    data = tasks[0]
    costs = [
        light_judged(data.grid, "x", named[name].set_up(data)).cost.warmup
        for name in ("debiased CKA, t .7 and .8", "plain CKA, t .7 and .8")
    ]
    assert costs[1] <= costs[0]


def test_rules_are_judged_by_the_truth(tasks: tuple[TaskData, ...]) -> None:
    data = tasks[0]
    found = compare_rules(data)["last score"]["0.125"]
    at, final = data.scores[:, 2], data.scores[:, -1]
    assert found.tau == pytest.approx(weighted_tau(at.tolist(), final.tolist()))
    assert found.error == pytest.approx(np.abs(at - final).mean())
    assert found.bias == pytest.approx((at - final).mean())
    assert found.final == pytest.approx(final.mean())


def test_schedules_are_judged_by_their_own_end(tasks: tuple[TaskData, ...]) -> None:
    found = compare_schedules(tasks[0])
    assert list(found) == [MAIN_SCHEDULE, "linear", "cooldown", "ema"]
    assert tasks[0].schedules is not None
    own = tasks[0].schedules.scores[:, 1, -1]
    assert found["cooldown"].final == pytest.approx(own.mean())
