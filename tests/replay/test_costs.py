"""Costs of a replayed search: every unit is counted once, and projected by its cost at 7B."""

from __future__ import annotations

import pytest

from mordal_optuna.config import SearchSettings
from mordal_optuna.replay.costs import (
    PICTURE,
    SCORED_DOCUMENT,
    TRAIN_SAMPLE,
    comparison_costs,
    cost_parts,
    projected_grid_seconds,
    search_costs,
    warmed_up,
)
from mordal_optuna.replay.grid import Grid
from mordal_optuna.replay.run import pool_tree
from mordal_optuna.replay.synthetic import synthetic_grid
from mordal_optuna.search.history import CandidateHistory, History
from mordal_optuna.study.costs import Costs


@pytest.fixture(scope="module")
def grid() -> Grid:
    return synthetic_grid(0, encoders=3, llms=2)


def test_each_llm_is_warmed_up_with_the_medoid_of_each_vision_cluster(grid: Grid) -> None:
    settings = SearchSettings.model_validate({"method": "mordal", "vision_threshold": -1})
    tree = pool_tree(grid, settings)
    (medoid,) = {cluster.vision.medoid for cluster in tree.clusters}
    pairs = warmed_up(tree)
    assert [(c.vision_encoder, c.llm) for c in pairs] == [(medoid, llm) for llm in grid.llms]
    measured, projected = comparison_costs(grid, tree)
    assert measured == Costs(
        features=grid.feature_seconds, warmup=sum(grid.warmup(pair) for pair in pairs)
    )
    assert projected
    # In this grid a warm-up costs 1 % of a full alignment.
    assert projected.warmup == pytest.approx(2 * 0.01 * grid.full_samples * TRAIN_SAMPLE)
    assert projected.features == pytest.approx(3 * grid.test_documents * PICTURE)


def test_a_warm_up_of_unknown_speed_is_not_projected(grid: Grid) -> None:
    content = grid.model_dump()
    for curve in content["curves"]:
        curve["train_seconds"] = [0.0] * len(curve["samples"])
    free = Grid.model_validate(content)
    tree = pool_tree(free, SearchSettings.model_validate({"method": "mordal"}))
    measured, projected = comparison_costs(free, tree)
    assert measured.warmup > 0
    assert projected is None


def test_training_counts_up_to_the_highest_rung_and_every_score_counts(grid: Grid) -> None:
    first, second = grid.candidates[:2]
    runs = {first: grid.measurements(first)[:3], second: grid.measurements(second)[:1]}
    history = History({pair: CandidateHistory(points) for pair, points in runs.items()})
    before = Costs(features=1.0, warmup=2.0)
    measured, projected = search_costs(grid, history, before, Costs(features=3.0, warmup=4.0))
    points = [point for points in runs.values() for point in points]
    assert cost_parts(measured) == {
        "features": 1.0,
        "warmup": 2.0,
        "training": runs[first][-1].train_seconds + runs[second][-1].train_seconds,
        "evaluation": pytest.approx(sum(point.eval_seconds for point in points)),
    }
    assert projected
    samples = runs[first][-1].samples + runs[second][-1].samples
    assert cost_parts(projected) == {
        "features": 3.0,
        "warmup": 4.0,
        "training": pytest.approx(samples * TRAIN_SAMPLE),
        "evaluation": pytest.approx(4 * grid.test_documents * SCORED_DOCUMENT),
    }
    assert search_costs(grid, history, before, None) == (measured, None)


def test_the_grid_trains_every_pair_fully_and_scores_it_once(grid: Grid) -> None:
    each = grid.full_samples * TRAIN_SAMPLE + grid.test_documents * SCORED_DOCUMENT
    assert projected_grid_seconds(grid) == pytest.approx(6 * each)
