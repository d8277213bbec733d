"""Figures of methods: what each is judged against, shares, rivals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy import stats

from benchmarks.minigrid.tables.bootstrap import Replicate, Resampler, full_data, with_scores
from benchmarks.minigrid.tables.methods import (
    FIGURES,
    figures,
    light_replay,
    ranked_last,
    regret,
    run_method,
    run_rival,
    share_interval,
)
from mordal_optuna.replay.costs import PARTS
from mordal_optuna.replay.run import replay

if TYPE_CHECKING:
    from benchmarks.minigrid.tables.data import TaskData


def test_shares_have_wilsons_interval() -> None:
    for hits, count in ((0, 40), (3, 40), (40, 40)):
        found = share_interval([1.0] * hits + [0.0] * (count - hits))
        known = stats.binomtest(hits, count).proportion_ci(method="wilson")
        assert found.value == hits / count
        assert (found.low, found.high) == pytest.approx((known.low, known.high), abs=1e-6)


def test_figures_on_the_full_data_are_the_replays(tasks: tuple[TaskData, ...]) -> None:
    data = tasks[0]
    truth = full_data(data).truth
    found = replay(data.grid, "mordal", truths=truth)
    same = replay(data.grid, "mordal")
    result = run_method(data, "mordal", [], [1.0], seeds=2)
    assert result.picked == found.picked
    assert result.figures["tau"] == found.tau
    assert result.figures["tau_same_run"] == same.tau != found.tau
    assert result.figures["regret"] == pytest.approx(found.regret)
    assert result.figures["gain"] == found.gain == same.gain
    assert result.figures["cost"] == pytest.approx(found.full_runs)
    parts = [result.figures[f"cost_{part}"] for part in PARTS]
    assert sum(p for p in parts if p) == pytest.approx(found.full_runs)


def test_random_methods_are_means_over_seeds(tasks: tuple[TaskData, ...]) -> None:
    data = tasks[0]
    result = run_method(data, "random", [], [2.0], seeds=5)
    truths = full_data(data).truth
    taus = [replay(data.grid, "random", seed=s, budget=2.0, truths=truths).tau for s in range(5)]
    assert result.figures["tau"] == pytest.approx(np.mean(taus))


def test_a_replicate_is_judged_by_its_own_truth_but_loses_points_of_the_full_data(
    tasks: tuple[TaskData, ...],
) -> None:
    """Seen and true order are reversed: the grid agrees with its run alone, and picks its best."""
    data = tasks[0]
    stderr = np.full(data.scores.shape, 0.01)
    turned = with_scores(data.grid, 1 - data.truth, stderr)
    whole = full_data(data)
    seen = Replicate(turned, whole.truth)
    found = figures(light_replay(turned, "grid", truths=seen.truth), seen, whole)
    assert found["tau_same_run"] == pytest.approx(1)
    assert found["tau"] == pytest.approx(-1)
    assert found["rejected"] == 0
    assert found["regret"] == pytest.approx(np.ptp(data.truth[:, -1]))


def test_the_same_plan_on_every_replicate(tasks: tuple[TaskData, ...]) -> None:
    """One set-up serves all replicates: as if each were set up anew."""
    data = tasks[0]
    drawn = [Resampler(data).replicate(number) for number in range(3)]
    result = run_method(data, "mordal", drawn, [1.0] * 4, seeds=1)
    for number, (seen, row) in enumerate(zip(drawn, result.replicates, strict=True)):
        anew = light_replay(seen.grid, "mordal", seed=number, draws=10, truths=seen.truth)
        assert row == figures(anew, seen, full_data(data))
    for figure in FIGURES:
        assert result.interval(figure) is not None


def test_a_rivals_missing_score_ranks_last() -> None:
    assert ranked_last(np.array([3.0, np.nan, 1.0])) == [3.0, 0.0, 1.0]
    assert ranked_last(np.array([np.nan, np.nan])) == [0.0, 0.0]


def test_a_rival_is_its_scores(tasks: tuple[TaskData, ...]) -> None:
    data = tasks[0]
    assert data.rivals is not None
    drawn = [Resampler(data).replicate(number) for number in range(3)]
    result = run_rival(data, "logme", drawn)
    scores, truth = data.rivals.scores["logme"], data.truth[:, -1]
    assert result.figures["tau"] == pytest.approx(stats.weightedtau(scores, truth).statistic)
    assert result.figures["regret"] == pytest.approx(truth.max() - truth[scores.argmax()])
    assert result.figures["regret"] == pytest.approx(regret(full_data(data).truth, result.picked))
    assert result.figures["gain"] == pytest.approx(data.grid.grid_seconds / 1.5)
    assert result.interval("rejected") is None  # it drops nobody
    assert result.interval("gain_projected") is None
    for seen, row in zip(drawn, result.replicates, strict=True):
        run = [seen.grid.truth(c) for c in seen.grid.candidates]
        assert row["tau"] == pytest.approx(stats.weightedtau(scores, seen.truths()).statistic)
        assert row["tau_same_run"] == pytest.approx(stats.weightedtau(scores, run).statistic)
