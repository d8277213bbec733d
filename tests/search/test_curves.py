"""Learning curves: fits, windows, run noise and the pool's slope."""

from __future__ import annotations

import numpy as np
import pytest

from mordal_optuna.errors import SearchError
from mordal_optuna.search.curves import (
    RUN_NOISE,
    VAGUE_SLOPE,
    Measurement,
    SlopePrior,
    fit_log_linear,
    fit_pool,
    pooled_run_noise,
    pooled_slope,
    stable_window,
)


def curve(slope: float, samples: tuple[int, ...], level: float = 0.6) -> list[Measurement]:
    return [
        Measurement(n, 1 - level * (n / samples[0]) ** slope, stderr=0.01, documents=1000)
        for n in samples
    ]


def test_an_exact_power_law_is_extrapolated_exactly() -> None:
    fit = fit_log_linear(curve(-0.3, (512, 1024, 2048)))
    y, _ = fit.log_error(16384)
    assert fit.slope == pytest.approx(-0.3)
    assert np.exp(y) == pytest.approx(0.6 * (16384 / 512) ** -0.3)
    assert fit.goodness == pytest.approx(1.0)


def test_a_precise_point_weighs_more_than_a_noisy_one() -> None:
    """Two precise points on a line and one noisy outlier: the line goes through the precise."""
    points = [
        Measurement(100, 0.4, stderr=0.001, documents=10_000),
        Measurement(200, 0.9, stderr=0.3, documents=10_000),
        Measurement(400, 0.6, stderr=0.001, documents=10_000),
    ]
    fit = fit_log_linear(points)
    assert np.exp(fit.log_error(100)[0]) == pytest.approx(0.6, abs=0.01)
    assert np.exp(fit.log_error(400)[0]) == pytest.approx(0.4, abs=0.01)


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Two standard errors around f(1) hold the truth in about 95 % of 400 noisy curves."""
    rng = np.random.default_rng(0)
    samples, documents, inside = (512, 1024, 2048, 4096), 500, 0
    for _ in range(400):
        points = []
        for n in samples:
            truth = 0.7 * (n / 512) ** -0.25
            score = 1 - rng.binomial(documents, truth) / documents
            noise = (score * (1 - score) / documents) ** 0.5
            points.append(Measurement(n, score, noise, documents))
        y, s = fit_log_linear(points).log_error(16384)
        inside += abs(y - np.log(0.7 * 32**-0.25)) < 1.96 * s
    assert 0.93 <= inside / 400 <= 1.0


def test_a_bent_curve_is_trusted_less() -> None:
    straight = fit_log_linear(curve(-0.3, (512, 1024, 2048)))
    bent = curve(-0.3, (512, 1024, 2048))
    bent[1] = Measurement(1024, bent[1].score - 0.15, stderr=0.01, documents=1000)
    fit = fit_log_linear(bent)
    assert fit.goodness < 0.01
    assert fit.log_error(16384)[1] > 3 * straight.log_error(16384)[1]


def test_a_rising_error_is_extrapolated_flat_and_marked() -> None:
    """Its slope stays as it is, for the pool's mean of slopes."""
    fit = fit_log_linear(curve(+0.2, (512, 1024, 2048), level=0.3))
    assert fit.rising
    assert fit.slope == pytest.approx(0.2)
    assert fit.log_error(16384)[0] == pytest.approx(fit.log_error(512)[0])


def test_an_error_of_zero_counts_as_half_a_document() -> None:
    perfect = Measurement(512, 1.0, stderr=0.0, documents=200)
    assert np.exp(perfect.log_error) == pytest.approx(0.5 / 200)
    assert perfect.log_noise > 0


@pytest.mark.parametrize("score", [-0.1, 1.1, float("nan")])
def test_an_invalid_score_is_refused(score: float) -> None:
    with pytest.raises(SearchError, match="must be between 0 and 1"):
        Measurement(10, score)


def test_one_point_makes_no_curve() -> None:
    with pytest.raises(SearchError, match="at least 2 different"):
        fit_log_linear(curve(-0.3, (512,)))


def test_a_prior_pulls_a_noisy_slope_and_leaves_a_precise_one() -> None:
    prior = SlopePrior(-0.1, 0.02)
    precise = [Measurement(n, 1 - 0.6 * (n / 512) ** -0.3, 1e-5, 10**8) for n in (512, 1024, 2048)]
    noisy = [Measurement(n, 1 - 0.6 * (n / 512) ** -0.3, 0.2, 100) for n in (512, 1024, 2048)]
    assert fit_log_linear(precise, prior).slope == pytest.approx(-0.3, abs=1e-3)
    assert fit_log_linear(noisy, prior).slope == pytest.approx(-0.1, abs=0.01)


def test_one_point_and_a_prior_make_a_curve_along_the_prior() -> None:
    point = Measurement(512, 0.4, 0.01, 1000)
    fit = fit_log_linear([point], SlopePrior(-0.25, 0.1))
    y, s = fit.log_error(512 * 16)
    assert fit.slope == pytest.approx(-0.25)
    assert y == pytest.approx(np.log(0.6) - 0.25 * np.log(16))
    # its own noise, the prior's spread, and the drift of slopes beyond the last point
    assert s**2 == pytest.approx(point.log_noise**2 + (0.1**2 + 0.1**2) * np.log(16) ** 2)
    # run noise moves the point and, once more, the run that is predicted
    moved = fit_log_linear([point], SlopePrior(-0.25, 0.1), run_noise=0.2).log_error(512 * 16)
    assert moved[0] == pytest.approx(y)
    assert moved[1] ** 2 == pytest.approx(s**2 + 2 * 0.2**2)


def test_the_window_leaves_out_the_flat_start() -> None:
    """Near chance up to 1,024 samples, log-linear from there on."""
    errors = (0.9, 0.9, 0.9, 0.7, 0.55, 0.43)
    points = [Measurement(256 * 2**k, 1 - error, 0.01, 1000) for k, error in enumerate(errors)]
    assert stable_window(points, least=3) == tuple(points[2:])
    assert fit_log_linear(stable_window(points, least=3)).goodness > 0.05


def test_the_window_keeps_all_points_of_one_line_and_never_fewer_than_asked() -> None:
    straight = curve(-0.3, (256, 512, 1024, 2048))
    assert stable_window(straight, least=3) == tuple(straight)
    wild = [
        Measurement(n, score, 1e-4, 10**6)
        for n, score in ((256, 0.1), (512, 0.5), (1024, 0.2), (2048, 0.6))
    ]
    assert stable_window(wild, least=3) == tuple(wild[1:])
    assert stable_window(straight[:2], least=3) == tuple(straight[:2])


def test_run_noise_keeps_points_that_scatter() -> None:
    """Precise scores that jump by .1 around a line are no start of another regime."""
    jumps = (0.1, -0.1, 0.1, -0.1, 0.1)
    points = [
        Measurement(256 * 2**k, 1 - 0.6 * 0.8**k * np.exp(jump), 0.002, 10**4)
        for k, jump in enumerate(jumps)
    ]
    assert stable_window(points, least=3) == tuple(points[2:])
    assert stable_window(points, least=3, run_noise=0.1) == tuple(points)


def noisy_pool(
    rng: np.random.Generator, run_noise: float, rungs: tuple[int, ...], curves: int = 12
) -> list[list[Measurement]]:
    """Log-linear curves of other slopes, every score moved by its run and by 500 documents."""
    pool = []
    for slope in rng.normal(-0.25, 0.05, curves):
        errors = 0.7 * (np.array(rungs) / rungs[0]) ** slope
        errors *= np.exp(rng.normal(0, run_noise, len(rungs)))
        found = 1 - rng.binomial(500, np.minimum(errors, 1)) / 500
        pool.append(
            [
                Measurement(n, score, (score * (1 - score) / 500) ** 0.5, 500)
                for n, score in zip(rungs, found, strict=True)
            ]
        )
    return pool


def test_run_noise_is_the_prior_without_curves_and_estimated_from_many() -> None:
    assert pooled_run_noise([]) == RUN_NOISE
    assert pooled_run_noise([curve(-0.3, (512, 1024))] * 50) == RUN_NOISE
    rng = np.random.default_rng(0)
    for true in (0.0, 0.05, 0.2):
        found = pooled_run_noise(noisy_pool(rng, true, (512, 1024, 2048, 4096), curves=400))
        assert found == pytest.approx(true, abs=0.015)


@pytest.mark.parametrize("least", [2, 3])
def test_run_noise_is_estimated_before_points_are_left_out(least: int) -> None:
    """A window keeps what happens to lie on a line: of .2 it would show .13 with two points."""
    rng, found = np.random.default_rng(3), []
    for _ in range(10):
        pool = noisy_pool(rng, 0.2, (512, 1024, 2048, 4096, 8192, 16384))
        fits = fit_pool(dict(enumerate(pool)), least=least)
        found.append(fits[0].run_noise)
    assert np.mean(found) == pytest.approx(0.18, abs=0.025)


def test_a_flat_start_is_not_taken_for_noise() -> None:
    """Near chance up to 2,048 samples and then straight: the last points say how noisy it is."""
    errors = (0.9, 0.9, 0.9, 0.7, 0.55, 0.43)
    points = [Measurement(256 * 2**k, 1 - error, 0.002, 10**5) for k, error in enumerate(errors)]
    fits = fit_pool(dict.fromkeys(range(20), points), least=3)
    assert fits[0].run_noise < 0.05
    assert fits[0].first == 1024


def test_the_pools_slope_is_not_biased_by_slopes_that_seem_to_rise() -> None:
    """Flat curves: half of the noisy slopes lie above 0, and held there their mean would fall."""
    rng, found = np.random.default_rng(4), []
    for _ in range(40):
        pool = []
        for _ in range(30):
            scores = 0.5 + rng.normal(0, 0.02, 2)
            rungs = (512, 1024)
            pool.append([Measurement(n, s, 0.02, 600) for n, s in zip(rungs, scores, strict=True)])
        alone = [fit_log_linear(points) for points in pool]
        assert any(fit.rising for fit in alone)
        found.append(pooled_slope(alone).mean)
    assert np.mean(found) == pytest.approx(0.0, abs=0.01)


def test_a_pools_intervals_cover_what_a_run_scores() -> None:
    """50 pools: scores at twice the last rung lie in 95 % intervals, documents alone miss many."""
    rng = np.random.default_rng(2)
    inside, before = [], []
    for _ in range(50):
        pool = noisy_pool(rng, 0.15, (512, 1024, 2048, 4096, 8192))
        fits = fit_pool({k: points[:4] for k, points in enumerate(pool)}, least=3)
        for key, points in enumerate(pool):
            y, s = fits[key].log_error(8192)
            noise = points[-1].log_noise
            inside.append(abs(points[-1].log_error - y) < 1.96 * np.hypot(s, noise))
            y, s = fit_log_linear(points[:4]).log_error(8192)
            before.append(abs(points[-1].log_error - y) < 1.96 * np.hypot(s, noise))
    assert 0.93 <= np.mean(inside) <= 0.99
    assert np.mean(before) < 0.9


def test_the_pools_slope_is_the_prior_without_curves_and_estimated_from_many() -> None:
    nothing = pooled_slope([])
    assert nothing.mean == VAGUE_SLOPE.mean
    assert nothing.spread >= VAGUE_SLOPE.spread
    rng = np.random.default_rng(0)
    fits = [
        fit_log_linear(curve(slope, (512, 1024, 2048, 4096)))
        for slope in rng.normal(-0.4, 0.05, 200)
    ]
    prior = pooled_slope(fits)
    assert prior.mean == pytest.approx(-0.4, abs=0.01)
    assert prior.spread == pytest.approx(0.05, abs=0.015)


def test_shrinking_predicts_better_than_single_fits_when_points_are_few() -> None:
    """100 noisy pools of 12 curves with three points each: mean squared error at D."""
    rng = np.random.default_rng(1)
    single, shrunk = [], []
    for _ in range(100):
        truth, fits, curves = [], [], []
        for slope in rng.normal(-0.25, 0.04, 12):
            errors = 0.7 * np.array([1, 2, 4, 32]) ** slope
            truth.append(np.log(errors[-1]))
            scores = 1 - rng.binomial(400, errors[:3]) / 400
            points = [
                Measurement(512 * 2**k, s, (s * (1 - s) / 400) ** 0.5, 400)
                for k, s in enumerate(scores)
            ]
            curves.append(points)
            fits.append(fit_log_linear(points))
        prior = pooled_slope(fits)
        for points, fit, y in zip(curves, fits, truth, strict=True):
            single.append((fit.log_error(16384)[0] - y) ** 2)
            shrunk.append((fit_log_linear(points, prior).log_error(16384)[0] - y) ** 2)
    assert np.mean(shrunk) < 0.7 * np.mean(single)


def test_a_measurement_reads_back_as_it_was_stored() -> None:
    """Under the names that studies in users' databases have; what is unknown is left out."""
    plain = Measurement(8, 0.5, None, None, 2.0, 1.0)
    names = ("stderr", "documents", "train_seconds", "eval_seconds")
    assert plain.to_json() == dict(zip(names, (None, None, 2.0, 1.0), strict=True))
    whole = Measurement(
        8, 0.5, 0.1, 9, 2.0, 1.0, nll=0.3, nll_stderr=0.01, guessed=0.1, train_spent=1.5,
        eval_spent=0.5, answers="packed", cut=0.2, empty=0.0, alike=0.4,
        differing=0.03, time={"training": 1.5},
    )  # fmt: skip
    optional = {"nll": 0.3, "nll_stderr": 0.01, "guessed": 0.1, "cut": 0.2, "empty": 0.0}
    optional |= {"alike": 0.4, "train_spent": 1.5, "eval_spent": 0.5}
    optional |= {"differing": 0.03, "time": {"training": 1.5}}
    assert whole.to_json() == dict(zip(names, (0.1, 9, 2.0, 1.0), strict=True)) | optional
    for measurement, answers in ((plain, None), (whole, "packed")):
        details = measurement.to_json()
        stored = Measurement.from_json(details, samples=8, score=0.5, answers=answers)
        assert stored == measurement
    assert Measurement.from_json({}, samples=8, score=0.5) == Measurement(8, 0.5)
