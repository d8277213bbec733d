"""Ceilings: what is ranked by what, judged as methods are, at the cost of its runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy import stats

from benchmarks.minigrid.tables.bootstrap import Resampler, full_data
from benchmarks.minigrid.tables.ceilings import (
    AT_HALF,
    CEILINGS,
    SECOND_RUN,
    at_half,
    run_ceilings,
    second_run,
)
from benchmarks.minigrid.tables.methods import FIGURES, regret, run_method

if TYPE_CHECKING:
    from benchmarks.minigrid.tables.data import TaskData

COUNT = 40


def test_a_second_run_ranks_as_the_grid_does_but_not_like_it(tasks: tuple[TaskData, ...]) -> None:
    """Against the truth any run is as good; only the grid knows its own run."""
    data = tasks[1]
    resampler = Resampler(data)
    drawn = [resampler.replicate(number) for number in range(COUNT)]
    second = run_ceilings(data, replicates=COUNT)[SECOND_RUN]
    grid = run_method(data, "grid", drawn, [None] * (COUNT + 1), seeds=1)
    for figure in ("tau", "regret"):
        means = [[float(row[figure] or 0) for row in r.replicates] for r in (second, grid)]
        error = np.std(np.subtract(*means)) / COUNT**0.5
        assert np.mean(means[0]) == pytest.approx(np.mean(means[1]), abs=3 * error + 1e-9)
    assert all(row["tau_same_run"] == pytest.approx(1) for row in grid.replicates)
    assert all((row["tau_same_run"] or 0) < 1 for row in second.replicates)
    for figure in ("cost", "gain", "gain_projected", "rejected"):
        assert second.replicates[0][figure] == pytest.approx(grid.replicates[0][figure])


def test_ceilings_are_their_scores(tasks: tuple[TaskData, ...]) -> None:
    data = tasks[0]
    found, resampler, whole = run_ceilings(data, replicates=3), Resampler(data), full_data(data)
    assert tuple(found) == CEILINGS
    for number in range(3):
        seen = resampler.replicate(number)
        by_name = {SECOND_RUN: second_run(resampler, number), AT_HALF: at_half(seen.grid)}
        run = [seen.grid.truth(c) for c in seen.grid.candidates]
        for name, scores in by_name.items():
            row = found[name].replicates[number]
            best = data.grid.candidates[int(scores.argmax())]
            picked = (best.vision_encoder, best.llm)
            assert row["tau"] == pytest.approx(stats.weightedtau(scores, seen.truths()).statistic)
            assert row["tau_same_run"] == pytest.approx(stats.weightedtau(scores, run).statistic)
            assert row["regret"] == regret(whole.truth, picked)
    assert found[AT_HALF].figures["tau"] == pytest.approx(
        stats.weightedtau(data.scores[:, -2], data.truth[:, -1]).statistic
    )


def test_half_of_the_samples_cost_half_of_the_training(tasks: tuple[TaskData, ...]) -> None:
    data = tasks[0]
    found = run_ceilings(data, replicates=2)
    second, half = found[SECOND_RUN].figures, found[AT_HALF].figures
    assert second["cost"] == pytest.approx(len(data.grid.candidates))
    assert second["gain"] == pytest.approx(1)
    assert second["gain_projected"] == pytest.approx(1)
    assert half["cost_training"] == pytest.approx((second["cost_training"] or 0) / 2, rel=0.02)
    assert half["cost_evaluation"] == pytest.approx(second["cost_evaluation"], rel=0.02)
    assert 1 < (half["gain"] or 0) <= 2


def test_there_is_no_second_run_on_the_full_data(tasks: tuple[TaskData, ...]) -> None:
    """Its figures are means over bootstraps; every figure applies to both."""
    for name, found in run_ceilings(tasks[0], replicates=2).items():
        for figure in FIGURES:
            assert found.interval(figure) is not None
        tau = found.interval("tau")
        assert tau is not None
        assert (tau.value is None) == (name == SECOND_RUN) == (found.picked is None)
