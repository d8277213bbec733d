"""Gromov-Wasserstein: the score depends on geometry only; equal geometry scores 0."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mordal_optuna.errors import RivalError
from mordal_optuna.rivals.gromov import Metric, gromov_wasserstein

METRICS: tuple[Metric, ...] = ("cosine", "euclidean")
N = 40


def shapes() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((N, 8)), rng.standard_normal((N, 5))


@pytest.mark.parametrize("metric", METRICS)
def test_the_same_shape_has_a_distance_of_0(metric: Metric) -> None:
    """Rotated, scaled and embedded in more dimensions."""
    images, _ = shapes()
    turn = stats.special_ortho_group(12, seed=0).rvs()[:8]
    score = gromov_wasserstein(images, 3 * images @ turn, metric=metric)
    assert score == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("metric", METRICS)
def test_rotations_scales_and_orders_do_not_matter(metric: Metric) -> None:
    images, texts = shapes()
    value = gromov_wasserstein(images, texts, metric=metric)
    assert value < -0.05
    turn = stats.special_ortho_group(8, seed=0).rvs()
    order = np.random.default_rng(1).permutation(N)
    assert gromov_wasserstein(5 * images @ turn, texts / 7, metric=metric) == pytest.approx(value)
    moved = gromov_wasserstein(images[order], texts[order], metric=metric)
    assert moved == pytest.approx(value, rel=0.02)  # a local minimum, found from equal starts


def test_only_the_euclidean_shape_is_kept_by_shifts() -> None:
    images, texts = shapes()
    for metric, kept in (("euclidean", True), ("cosine", False)):
        value = gromov_wasserstein(images, texts, metric=metric)
        moved = gromov_wasserstein(images + 4, texts, metric=metric)
        assert (moved == pytest.approx(value)) is kept


def test_the_distance_is_symmetric() -> None:
    images, texts = shapes()
    assert gromov_wasserstein(texts, images) == pytest.approx(
        gromov_wasserstein(images, texts), rel=0.02
    )


def test_the_closer_the_shapes_the_higher_the_score() -> None:
    images, _ = shapes()
    noise = np.random.default_rng(3).standard_normal(images.shape)
    values = [gromov_wasserstein(images, images + share * noise) for share in (0.1, 0.4, 2.0)]
    assert 0 > values[0] > values[1] > values[2]


def test_unrelated_noise_scores_higher_the_wider_it_is() -> None:
    """A weakness of the definition: distances between wide noise vectors are almost equal."""
    rng = np.random.default_rng(5)
    texts = rng.standard_normal((N, 64))
    values = [gromov_wasserstein(rng.standard_normal((N, w)), texts) for w in (4, 32, 1024)]
    assert values == sorted(values)
    assert values[0] < 2 * values[-1]


def test_it_is_half_the_root_of_the_objective() -> None:
    """Three points on a line against three equidistant points, computed by hand."""
    line = np.array([[0.0], [1.0], [2.0]])  # distances 1, 1, 2: over their mean .75, .75, 1.5
    alike = np.eye(3)  # distances 1, 1, 1
    # every permutation costs the same; 2/9 of the sum of the squared differences
    expected = 2 / 9 * (0.25**2 + 0.25**2 + 0.5**2)
    found = gromov_wasserstein(line, alike, metric="euclidean")
    assert found == pytest.approx(-(expected**0.5) / 2, rel=1e-3)


def test_a_subset_of_many_documents_depends_on_the_seed_only() -> None:
    images, texts = shapes()
    drawn = np.random.default_rng(4).permutation(N)[:20]
    assert gromov_wasserstein(images, texts, documents=20, seed=4) == pytest.approx(
        gromov_wasserstein(images[drawn], texts[drawn])
    )


def test_what_has_no_shape_is_refused() -> None:
    images, texts = shapes()
    with pytest.raises(RivalError, match="metric: got 'city'; allowed are cosine, euclidean"):
        gromov_wasserstein(images, texts, metric="city")  # type: ignore[arg-type]
    with pytest.raises(RivalError, match="at least 3"):
        gromov_wasserstein(images[:2], texts[:2])
    with pytest.raises(RivalError, match="40 rows"):
        gromov_wasserstein(images, texts[:-1])
    with pytest.raises(RivalError, match="text features: all documents have the same"):
        gromov_wasserstein(images, np.ones((N, 3)))
    texts[3] = 0
    with pytest.raises(RivalError, match="text features: got a vector that is 0"):
        gromov_wasserstein(images, texts)
