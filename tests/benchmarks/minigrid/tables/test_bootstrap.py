"""Replicates: documents by cluster, seeds by residual curves, intervals of two kinds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.minigrid.tables.bootstrap import (
    Resampler,
    add_on_z,
    centred_interval,
    percentile_interval,
    seed_residuals,
    weighted_scores,
)
from benchmarks.minigrid.tables.data import TaskData
from mordal_optuna.evaluation.documents import standard_error


def test_weights_are_documents_drawn_that_often() -> None:
    """Against the drawn documents written out, with the product's own standard error."""
    rng = np.random.default_rng(0)
    clusters = np.array([0, 0, 1, 2, 2, 2, 3])
    values = rng.random(7)
    sums, sizes = np.bincount(clusters, values)[None, None], np.bincount(clusters).astype(float)
    drawn = [2, 0, 1, 1]
    written, named = [], []
    for copy, cluster in enumerate([0, 0, 2, 3]):
        own = values[clusters == cluster].tolist()
        written += own
        named += [copy] * len(own)
    score, stderr = weighted_scores(sums, sizes, drawn)
    assert score[0, 0] == pytest.approx(np.mean(written))
    assert stderr[0, 0] == pytest.approx(standard_error(written, named))


def test_drawing_every_cluster_once_gives_the_file(tasks: tuple[TaskData, ...]) -> None:
    data = tasks[0]
    clusters = int(data.clusters.max()) + 1
    shown = np.eye(clusters)[data.clusters]
    score, stderr = weighted_scores(data.values @ shown, shown.sum(axis=0), np.ones(clusters))
    assert score == pytest.approx(data.scores)
    of_file = np.array([curve.stderr for curve in data.grid.curves])
    assert stderr == pytest.approx(of_file)


def test_the_same_documents_are_drawn_for_all(tasks: tuple[TaskData, ...]) -> None:
    """A pair's replicate depends on its own values alone, through one common draw."""
    data = tasks[0]
    twin = np.repeat(data.values[:1], len(data.values), axis=0)
    alike = TaskData(
        data.grid, data.biased, twin, data.clusters, data.seed_pairs, data.seed_scores
    )
    score, _ = Resampler(alike).documents_redrawn(3)
    assert np.ptp(score, axis=0) == pytest.approx(0)
    assert np.abs(score[0] - data.scores[0]).max() > 0


def test_residuals_have_the_seeds_variance() -> None:
    """The pooled residuals' mean square is the unbiased variance between seeds, on the z scale."""
    rng = np.random.default_rng(0)
    z = 0.8 + rng.normal(0, 0.05, (4000, 3, 1))
    found = seed_residuals(np.sin(z) ** 2)
    assert found.shape == (12000, 1)
    assert found.std() == pytest.approx(0.05, rel=0.03)
    assert found.mean() == pytest.approx(0, abs=1e-12)


def test_scores_stay_scores() -> None:
    moved = add_on_z(np.array([0.0, 0.5, 1.0]), np.array([-0.2, 0.0, 0.3]))
    assert moved == pytest.approx([0, 0.5, 1])


def test_likelihoods_are_redrawn_with_the_scores(tasks: tuple[TaskData, ...]) -> None:
    """Where -ln p of a document falls as its value rises, and runs differ alike, they go along."""
    data = tasks[0]
    z = np.arcsin(np.sqrt(data.seed_scores))
    linked = replace(data, nlls=2 - data.values, seed_nlls=np.exp(-z))
    resampler = Resampler(linked)
    scores, stderr = resampler.documents_redrawn(4)
    found = resampler.nlls(4)
    assert found
    factor = np.exp(-resampler.seeds_redrawn(4))
    assert found[0] == pytest.approx((2 - scores) * factor)
    assert found[1] == pytest.approx(stderr * factor)
    curve = resampler.grid(4).curves[0]
    assert curve.nll == pytest.approx(found[0][0].tolist())
    assert curve.nll_stderr == pytest.approx(found[1][0].tolist())
    assert Resampler(replace(data, nlls=None)).grid(4).curves[0].nll is None


def test_replicates_repeat_and_share_the_run_over_tasks(tasks: tuple[TaskData, ...]) -> None:
    first, second = (Resampler(data) for data in tasks)
    assert first.grid(5) == Resampler(tasks[0]).grid(5)
    assert first.grid(5) != first.grid(6)
    # which run's residuals a pair gets is the same on all tasks; the documents are not
    rows = [
        [int(np.abs(r._residuals - row).sum(axis=1).argmin()) for row in r.seeds_redrawn(5)]
        for r in (first, second)
    ]
    assert rows[0] == rows[1]


def test_replicates_are_centred_on_the_file(tasks: tuple[TaskData, ...]) -> None:
    resampler = Resampler(tasks[0])
    scores = np.array([resampler.scores(n)[0] for n in range(400)])
    spread = scores.std(axis=0)
    assert np.abs(scores.mean(axis=0) - tasks[0].scores).max() < 0.25 * spread.max()
    alone = np.array([resampler.documents_redrawn(n)[0] for n in range(400)])
    assert (spread.mean(axis=0) > alone.std(axis=0).mean(axis=0)).all()


def test_a_plain_interval_is_the_middle_of_the_replicates() -> None:
    found = percentile_interval(7.0, np.arange(1001))
    assert (found.value, found.mean, found.low, found.high) == (7, 500, 25, 975)


def test_a_centred_interval_is_moved_to_the_value_and_stays_in_range() -> None:
    replicates = [0.5, 0.6, 0.7]  # percentiles 2.5 and 97.5 are .505 and .695
    found = centred_interval(0.9, replicates, least=-1, most=1)
    assert found.low == pytest.approx(0.9 - (0.6 - 0.505))
    assert found.high == pytest.approx(0.9 + (0.695 - 0.6))
    assert centred_interval(0.99, [0.0, 0.5, 1.0], least=-1, most=1).high == 1
    # a rare jump moves the mean, and the value is inside all the same
    rare = centred_interval(2.0, [1.0] * 99 + [50.0], least=0, most=99)
    assert (rare.low, rare.value, rare.high) == (2, 2, 2)
