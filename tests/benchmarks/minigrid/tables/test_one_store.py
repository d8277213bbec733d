"""Bills of several searches, worked out by hand."""

from __future__ import annotations

import pytest

from benchmarks.minigrid.tables import one_store
from benchmarks.minigrid.tables.methods import light_replay
from mordal_optuna.replay.costs import SCORED_DOCUMENT, TRAIN_SAMPLE
from mordal_optuna.replay.synthetic import synthetic_grid


def test_the_same_search_twice_trains_once() -> None:
    grid = synthetic_grid(0, encoders=4, llms=4)
    run = light_replay(grid, "mordal")
    for bill, cost in (
        (one_store.measured([grid] * 2, [run] * 2, [{}, {}]), run.cost),
        (one_store.projected([grid] * 2, [run] * 2, [{}, {}]), run.cost_projected),
    ):
        assert bill.separate == pytest.approx(2 * cost.total)
        assert bill.store == pytest.approx(2 * cost.total - cost.training)
        assert bill.gain_over_separate == pytest.approx(bill.separate / bill.store)


def test_one_search_shares_with_nobody() -> None:
    grid = synthetic_grid(0, encoders=4, llms=4)
    bill = one_store.measured([grid], [light_replay(grid, "mordal")], [{}])
    assert bill.store == pytest.approx(bill.separate)
    assert bill.grid == pytest.approx(bill.grids)
    assert bill.grid == pytest.approx(grid.grid_seconds)


def test_a_shared_grid_trains_once_and_scores_on_every_task() -> None:
    grid = synthetic_grid(0, encoders=3, llms=3, documents=200)
    runs = [light_replay(grid, "grid")] * 3
    bill = one_store.measured([grid] * 3, runs, [{}] * 3)
    trained = sum(curve.train_seconds[-1] for curve in grid.curves)
    scored = sum(curve.eval_seconds[-1] for curve in grid.curves)
    assert bill.grid == pytest.approx(trained + 3 * scored)
    assert bill.grids == pytest.approx(3 * (trained + scored))
    # grids out of one store are the shared grid
    assert bill.store == pytest.approx(bill.grid)
    projected = one_store.projected([grid] * 3, runs, [{}] * 3)
    assert projected.grid == pytest.approx(
        9 * (grid.full_samples * TRAIN_SAMPLE + 3 * 200 * SCORED_DOCUMENT)
    )
    assert projected.store == pytest.approx(projected.grid)


def test_a_pair_is_trained_as_far_as_the_furthest_task_asks() -> None:
    """All pairs to 1/8 for one task, one pair to the end for the other."""
    grid = synthetic_grid(0, encoders=3, llms=3)
    some, one = light_replay(grid, "all-at-ratio"), light_replay(grid, "random", budget=0.5)
    tops = {c: max(one_store.tops(r).get(c, 0) for r in (some, one)) for c in grid.candidates}
    bill = one_store.projected([grid, grid], [some, one], [{}, {}])
    training = some.cost_projected.training + one.cost_projected.training
    expected = bill.separate - training + sum(tops.values()) * TRAIN_SAMPLE
    assert bill.store == pytest.approx(expected)
    assert max(tops.values()) == grid.full_samples


def test_a_projector_is_warmed_up_once() -> None:
    """Two searches ask for the first pair's, one for the second's."""
    grid = synthetic_grid(0, encoders=3, llms=3)
    run = light_replay(grid, "mordal")
    first, second = grid.candidates[:2]
    shared = [{first: 5.0}, {first: 5.0, second: 3.0}]
    for bill_of, saved in (
        (one_store.measured, 5.0),
        (one_store.projected, 5.0 / grid.seconds_per_sample(first) * TRAIN_SAMPLE),
    ):
        alone = bill_of([grid] * 2, [run] * 2, [{}, {}])
        bill = bill_of([grid] * 2, [run] * 2, shared)
        assert bill.store == pytest.approx(alone.store - saved)
        assert bill.separate == pytest.approx(alone.separate)
