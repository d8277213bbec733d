"""Replicates: documents by cluster, seeds by residual curves, intervals of two kinds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.minigrid.tables.bootstrap import (
    Resampler,
    add_on_z,
    centred_interval,
    drawable_runs,
    full_data,
    on_z,
    percentile_interval,
    weighted_scores,
    widened_residuals,
)
from benchmarks.minigrid.tables.data import TaskData, mean_of_runs
from mordal_optuna.errors import GridError
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
    further = np.repeat(data.values[:1], len(data.further_pairs), axis=0)
    score = Resampler(replace(data, values=twin, further_values=further)).truth(3)
    assert np.ptp(score, axis=0) == pytest.approx(0)
    assert np.abs(score[0] - data.scores[0]).max() > 0


def test_residuals_have_the_seeds_variance() -> None:
    """The residuals' mean square is the unbiased variance between seeds, for two runs or three."""
    rng = np.random.default_rng(0)
    pairs = np.concatenate((np.repeat(np.arange(4000), 3), np.repeat(np.arange(4000, 8000), 2)))
    rows = 0.8 + rng.normal(0, 0.05, (len(pairs), 1))
    found = widened_residuals(rows, pairs)
    for part in (found[:12000], found[12000:]):
        assert part.std() == pytest.approx(0.05, rel=0.03)
        assert part.mean() == pytest.approx(0, abs=1e-12)
    assert widened_residuals(rows[:3], np.arange(3)) == pytest.approx(0)


def test_a_pair_gets_a_run_of_its_own_where_it_has_several() -> None:
    found = drawable_runs(np.array([0, 1, 2, 0, 2]))
    assert [own.tolist() for own in found] == [[0, 3], [0, 2, 3, 4], [2, 4]]
    with pytest.raises(GridError, match="no pair has runs with further seeds"):
        drawable_runs(np.arange(3))


def test_what_is_seen_is_the_truth_and_the_noise_of_one_run(tasks: tuple[TaskData, ...]) -> None:
    """Whatever number of runs a pair has, the truth holds nothing of the seen run's noise."""
    data = tasks[0]
    resampler = Resampler(data)
    seen, truth = (
        np.array([f(n)[:, -1] for n in range(600)])
        for f in (lambda n: resampler.scores(n)[0], resampler.truth)
    )
    noise = on_z(seen) - on_z(truth)
    z = on_z(data.run_scores[:, -1])
    for pair in range(len(data.values)):
        own = z[data.run_pairs == pair]
        if len(own) > 1:
            assert noise[:, pair].std() == pytest.approx(own.std(ddof=1), rel=0.1)
            assert noise[:, pair].mean() == pytest.approx(0, abs=0.15 * own.std(ddof=1))
    lone = data.run_counts == 1
    several = [z[data.run_pairs == pair] for pair in np.flatnonzero(~lone)]
    # every run is drawn alike, so a pair weighs by its runs
    pooled = sum(len(own) * own.var(ddof=1) for own in several) / sum(map(len, several))
    assert (noise[:, lone] ** 2).mean() == pytest.approx(pooled, rel=0.1)
    assert abs(np.corrcoef(noise[:, 0], truth[:, 0])[0, 1]) < 0.15


def test_a_second_run_is_drawn_independently_of_the_first(tasks: tuple[TaskData, ...]) -> None:
    resampler = Resampler(tasks[0])
    first, second = (
        np.array([resampler.seeds_redrawn(n, run)[:, -1] for n in range(600)]) for run in (0, 1)
    )
    for one, other in zip(first.T, second.T, strict=True):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.2
    # and it is judged on the same documents, by the same truth
    own = add_on_z(resampler.truth(3), resampler.seeds_redrawn(3, 1))
    assert resampler.scores(3, run=1)[0] == pytest.approx(own)


def test_documents_are_shown_of_the_drawn_run(tasks: tuple[TaskData, ...]) -> None:
    """Of the pair's own run where the drawn one is another pair's."""
    data = tasks[0]
    resampler = Resampler(data)
    seen = set()
    for number in range(20):
        for pair, candidate in enumerate(data.grid.candidates):
            drawn = int(resampler.runs(number)[pair])
            run = drawn if data.run_pairs[drawn] == pair else pair
            answers = resampler.answers(number, candidate, data.samples[-1])
            sums = np.bincount(data.clusters, data.run_values[run, -1])
            written = np.repeat(sums, resampler._documents(number))
            assert answers.sums.tolist() == written.astype(np.float32).tolist()
            seen.add(run)
    assert seen == set(range(len(data.run_pairs)))


def test_the_full_data_is_the_grids_own_run_and_the_truth(tasks: tuple[TaskData, ...]) -> None:
    data = tasks[0]
    found = full_data(data)
    assert found.grid is data.grid
    assert found.truths() == pytest.approx(data.truth[:, -1])
    replicate = Resampler(data).replicate(2)
    assert replicate.grid == Resampler(data).grid(2)
    assert replicate.truths() == pytest.approx(Resampler(data).truth(2)[:, -1])


def test_scores_stay_scores() -> None:
    moved = add_on_z(np.array([0.0, 0.5, 1.0]), np.array([-0.2, 0.0, 0.3]))
    assert moved == pytest.approx([0, 0.5, 1])


def test_likelihoods_are_redrawn_with_the_scores(tasks: tuple[TaskData, ...]) -> None:
    """Where -ln p of a document falls as its value rises, and runs differ alike, they go along."""
    data = tasks[0]
    own = np.exp(-on_z(data.scores))
    nlls = own[..., None] * (1 + data.values - data.values.mean(axis=2, keepdims=True))
    further = np.exp(-on_z(data.further_values.mean(axis=2)))
    resampler = Resampler(replace(data, nlls=nlls, further_nlls=further))
    found = resampler.nlls(4)
    assert found
    # the mean over a pair's runs of ln(-ln p) is less than that of its own run by this
    centre = mean_of_runs(-on_z(data.run_scores), data.run_pairs) + on_z(data.scores)
    factor = np.exp(centre - resampler.seeds_redrawn(4))
    alone = Resampler(replace(data, nlls=nlls, further_nlls=own[list(data.further_pairs)])).nlls(4)
    assert alone  # runs without any difference
    assert found[0] == pytest.approx(alone[0] * factor)
    assert found[1] == pytest.approx(alone[1] * factor)
    curve = resampler.grid(4).curves[0]
    assert curve.nll == pytest.approx(found[0][0].tolist())
    assert curve.nll_stderr == pytest.approx(found[1][0].tolist())
    assert Resampler(replace(data, nlls=None)).grid(4).curves[0].nll is None


def test_mean_likelihoods_are_redrawn_with_the_scores(tasks: tuple[TaskData, ...]) -> None:
    """Where a document's p is its value, its redrawn mean is the redrawn score."""
    data = tasks[0]
    scores = data.further_values.mean(axis=2)
    with np.errstate(divide="ignore"):
        nlls = -np.log(data.values)
    resampler = Resampler(replace(data, nlls=nlls, further_nlls=None, further_p_correct=scores))
    found = resampler.p_correct(4)
    assert found
    # the own run alone is redrawn and then moved to the runs' mean on all documents
    own = Resampler(data)._scored(4)[0][: len(data.values)]
    centre = mean_of_runs(on_z(data.run_scores), data.run_pairs) - on_z(data.scores)
    assert found[0] == pytest.approx(add_on_z(own, centre + resampler.seeds_redrawn(4)))
    single = np.flatnonzero(data.run_counts == 1)
    assert found[0][single] == pytest.approx(resampler.scores(4)[0][single])
    assert found[1][single] == pytest.approx(resampler.scores(4)[1][single])
    curve = resampler.grid(4).curves[0]
    assert curve.p_correct == pytest.approx(found[0][0].tolist())
    assert curve.p_correct_stderr == pytest.approx(found[1][0].tolist())
    without = Resampler(replace(data, further_p_correct=None)).grid(4)
    assert without.curves[0].p_correct is None
    assert without.curves[0].nll == Resampler(data).grid(4).curves[0].nll


def test_replicates_repeat_and_share_the_run_over_tasks(tasks: tuple[TaskData, ...]) -> None:
    first, second = (Resampler(data) for data in tasks)
    assert first.grid(5) == Resampler(tasks[0]).grid(5)
    assert first.grid(5) != first.grid(6)
    # which run's residuals a pair gets is the same on all tasks; the documents are not
    assert first.runs(5).tolist() == second.runs(5).tolist() != first.runs(6).tolist()
    assert first._documents(5).tolist() != second._documents(5).tolist()


def test_replicates_are_centred_on_the_truth(tasks: tuple[TaskData, ...]) -> None:
    resampler = Resampler(tasks[0])
    scores = np.array([resampler.scores(n)[0] for n in range(400)])
    spread = scores.std(axis=0)
    assert np.abs(scores.mean(axis=0) - tasks[0].truth).max() < 0.25 * spread.max()
    alone = np.array([resampler.truth(n) for n in range(400)])
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
