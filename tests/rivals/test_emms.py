"""EMMS: the exact minimum, the bias of in-sample residuals, and both corrections."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import minimize

from mordal_optuna.errors import RivalError
from mordal_optuna.rivals.emms import emms, project_to_simplex, simplex_minimum


def noise(n: int, width: int, k: int = 3, outputs: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Independent features and embeddings."""
    rng = np.random.default_rng(width)
    return rng.standard_normal((n, width)), rng.standard_normal((k, n, outputs))


def related(n: int, width: int, k: int = 3, outputs: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """The first eight features explain half of the embeddings."""
    features, embeddings = noise(n, width, k, outputs)
    maps = np.random.default_rng(1).standard_normal((k, 8, outputs)) / 8**0.5
    return features, embeddings + features[:, :8] @ maps


def standard(values: np.ndarray) -> np.ndarray:
    return (values - values.mean(axis=-2, keepdims=True)) / values.std(axis=-2, keepdims=True)


def alternated(features: np.ndarray, embeddings: np.ndarray, rounds: int = 300) -> float:
    """Alternating least squares for w and projected gradients for t, as in the paper."""
    x, z = standard(features), standard(embeddings)
    t = np.full(len(z), 1 / len(z))
    flat = z.reshape(len(z), -1)
    gram = flat @ flat.T
    for _ in range(rounds):
        w = np.linalg.lstsq(x, np.tensordot(t, z, axes=1), rcond=None)[0]
        aim = flat @ (x @ w).ravel()
        for _ in range(50):
            t = project_to_simplex(t - (gram @ t - aim) / np.linalg.norm(gram, 2))
    return -float(np.mean((x @ w - np.tensordot(t, z, axes=1)) ** 2))


def test_the_projection_to_the_simplex_is_the_nearest_point() -> None:
    rng = np.random.default_rng(0)
    for values in rng.standard_normal((20, 4)) * 2:
        found = project_to_simplex(values)
        assert found.min() >= 0
        assert found.sum() == pytest.approx(1)
        for other in rng.dirichlet(np.ones(4), 200):
            assert np.sum((found - values) ** 2) <= np.sum((other - values) ** 2) + 1e-12
    inside = np.array([0.2, 0.3, 0.5])
    assert project_to_simplex(inside) == pytest.approx(inside)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_the_weights_are_the_best_in_the_simplex(scale: float) -> None:
    """As a general solver finds, for residuals of any scale."""
    rng = np.random.default_rng(0)
    for _ in range(10):
        root = rng.standard_normal((3, 4))
        gram = root.T @ root
        t = simplex_minimum(scale * gram)
        assert t.min() >= 0
        assert t.sum() == pytest.approx(1)
        other = minimize(
            lambda u, gram=gram: u @ gram @ u,
            np.full(4, 0.25),
            bounds=[(0, 1)] * 4,
            constraints={"type": "eq", "fun": lambda u: u.sum() - 1},
            options={"ftol": 1e-12},
        )
        assert t @ gram @ t == pytest.approx(other.fun, abs=1e-6)


def test_the_papers_alternation_converges_to_the_same_score() -> None:
    features, embeddings = related(80, 12)
    assert emms(features, embeddings, form="in-sample") == pytest.approx(
        alternated(features, embeddings), abs=1e-5
    )


@pytest.mark.slow
def test_in_sample_residuals_reward_width() -> None:
    """The published vectors: noise, N = 1000: -.32 at D = 64, 0 at D = 2048, in both forms."""
    for form in ("in-sample", "compatible"):
        assert emms(*noise(1000, 64), form=form) == pytest.approx(-0.32, abs=0.02)
        assert emms(*noise(1000, 2048), form=form) == pytest.approx(0, abs=1e-9)


def test_held_out_residuals_do_not_reward_width() -> None:
    """Noise explains nothing at any width, widths near the size of a training fold included."""
    for width in (16, 150, 160, 200, 800):
        features, embeddings = noise(200, width)
        z = standard(embeddings)[..., 0]
        t = simplex_minimum(z @ z.T / 200)
        unexplained = -t @ z @ z.T @ t / 200
        assert unexplained == pytest.approx(-1 / 3, abs=0.08)
        assert emms(features, embeddings) == pytest.approx(unexplained, rel=0.06)


def test_projection_to_a_common_width_does_not_reward_width() -> None:
    values = [emms(*noise(1000, width), form="projected", width=64) for width in (64, 200, 500)]
    assert values == pytest.approx([-(1 - 64 / 1000) / 3] * 3, abs=0.03)


@pytest.mark.parametrize("form", ["cross-validated", "in-sample", "compatible"])
def test_features_that_explain_the_answers_score_higher(form: str) -> None:
    features, embeddings = related(200, 20)
    unrelated = np.random.default_rng(9).standard_normal(features.shape)
    better = emms(features, embeddings, form=form)  # type: ignore[arg-type]
    assert better > emms(unrelated, embeddings, form=form) + 0.05  # type: ignore[arg-type]


def test_one_embedding_is_plain_regression() -> None:
    """K = 1: minus the mean unexplained share of variance, 1 - R^2."""
    features, embeddings = related(100, 10, k=1)
    x, z = standard(features), standard(embeddings)[0]
    left = z - x @ np.linalg.lstsq(x, z, rcond=None)[0]
    assert emms(features, embeddings, form="in-sample") == pytest.approx(-np.mean(left**2))


def test_an_embedding_that_is_explained_takes_all_the_weight() -> None:
    features, embeddings = noise(200, 10)
    embeddings[1] = features[:, :1]
    assert emms(features, embeddings, form="in-sample") == pytest.approx(0, abs=1e-9)
    assert emms(features, embeddings) == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("form", ["cross-validated", "in-sample", "compatible"])
def test_scales_shifts_and_orders_do_not_matter(form: str) -> None:
    features, embeddings = related(60, 10)
    value = emms(features, embeddings, form=form)  # type: ignore[arg-type]
    moved = features * np.arange(1, 11) - 3
    assert emms(moved, 7 * embeddings + 1, form=form) == pytest.approx(value)  # type: ignore[arg-type]
    assert emms(features, embeddings[::-1], form=form) == pytest.approx(value)  # type: ignore[arg-type]


def test_the_in_sample_form_depends_on_the_span_of_the_features_only() -> None:
    features, embeddings = related(60, 10)
    turn = stats.special_ortho_group(10, seed=0).rvs()
    assert emms(features @ turn, embeddings, form="in-sample") == pytest.approx(
        emms(features, embeddings, form="in-sample")
    )


def test_the_compatible_form_is_one_round_and_multiplies_by_the_outputs() -> None:
    features, embeddings = related(60, 10, outputs=4)
    x, z = standard(features), standard(embeddings)
    predicted = x @ np.linalg.lstsq(x, z.mean(axis=0), rcond=None)[0]
    t = np.linalg.lstsq(z.reshape(3, -1).T, predicted.ravel(), rcond=None)[0]
    unified = np.tensordot(project_to_simplex(t), z, axes=1)
    expected = -np.sum((predicted - unified) ** 2) / 60 * 4
    assert emms(features, embeddings, form="compatible") == pytest.approx(expected)


def test_the_seed_chooses_the_folds() -> None:
    features, embeddings = related(60, 10)
    assert emms(features, embeddings, seed=1) == emms(features, embeddings, seed=1)
    assert emms(features, embeddings, seed=1) != emms(features, embeddings, seed=2)


def test_what_cannot_be_scored_is_refused() -> None:
    features, embeddings = noise(20, 5)
    with pytest.raises(RivalError, match="needs a width"):
        emms(features, embeddings, form="projected")
    with pytest.raises(RivalError, match="the other forms take none"):
        emms(features, embeddings, width=3)
    with pytest.raises(RivalError, match="form: got 'quick'; allowed are cross-validated, "):
        emms(features, embeddings, form="quick")  # type: ignore[arg-type]
    with pytest.raises(RivalError, match="rank 5"):
        emms(features, embeddings, form="projected", width=6)
    with pytest.raises(RivalError, match="11 folds of 20 documents"):
        emms(features, embeddings, folds=11)
    with pytest.raises(RivalError, match="same features"):
        emms(np.ones((20, 5)), embeddings)
    embeddings[1] = 4.0
    with pytest.raises(RivalError, match="embedding is the same"):
        emms(features, embeddings)
