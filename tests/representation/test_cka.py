"""Rules of CKA: invariances, the null of each estimator, and an independent evaluation."""

from __future__ import annotations

import numpy as np
import pytest

from mordal_optuna.errors import SimilarityError
from mordal_optuna.representation.cka import Estimator, Form, cheaper_form, cka_matrix

ESTIMATORS: tuple[Estimator, ...] = ("biased", "debiased", "minibatch")
FORMS: tuple[Form, ...] = ("gram", "feature")


def pair(x: np.ndarray, y: np.ndarray, estimator: Estimator) -> float:
    return float(cka_matrix({"x": x, "y": y}, estimator=estimator)[0, 1])


def song_hsic(k: np.ndarray, level: np.ndarray) -> float:
    """Unbiased HSIC, eq. 5 of Song et al. 2012, term by term."""
    n = len(k)
    k, level = k - np.diag(np.diag(k)), level - np.diag(np.diag(level))
    one = np.ones(n)
    cross = one @ k @ one * (one @ level @ one) / ((n - 1) * (n - 2))
    total = np.trace(k @ level) + cross - 2 / (n - 2) * (one @ k @ level @ one)
    return float(total / (n * (n - 3)))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_is_one_for_rotated_scaled_and_shifted_features(estimator: Estimator) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 6))
    rotation = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    assert pair(x, 3.0 * x @ rotation + 7.0, estimator) == pytest.approx(1.0)


def test_biased_null_is_d_over_n_plus_d_and_debiased_null_is_zero() -> None:
    """Unrelated features: the biased estimate tends to d / (n + d), the debiased one to 0."""
    rng = np.random.default_rng(1)
    n, d = 200, 800
    x, y = rng.normal(size=(n, d)), rng.normal(size=(n, d))
    assert pair(x, y, "biased") == pytest.approx(d / (n + d), abs=0.02)
    assert pair(x, y, "debiased") == pytest.approx(0.0, abs=0.02)
    halves = cka_matrix({"x": x, "y": y}, estimator="minibatch", minibatch=50)[0, 1]
    assert halves == pytest.approx(0.0, abs=0.05)


def test_debiased_agrees_with_songs_formula() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(25, 5))
    y = x @ rng.normal(size=(5, 7)) + rng.normal(size=(25, 7))
    k, level = x @ x.T, y @ y.T
    expected = song_hsic(k, level) / np.sqrt(song_hsic(k, k) * song_hsic(level, level))
    assert pair(x, y, "debiased") == pytest.approx(expected)


def test_biased_agrees_with_the_papers_formula() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(20, 4)), rng.normal(size=(20, 9))
    h = np.eye(20) - 1 / 20
    k, level = x @ x.T, y @ y.T

    def hsic(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.trace(a @ h @ b @ h))

    expected = hsic(k, level) / np.sqrt(hsic(k, k) * hsic(level, level))
    assert pair(x, y, "biased") == pytest.approx(expected)


def test_refuses_different_images_constant_features_and_nan() -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(10, 3))
    with pytest.raises(SimilarityError, match="10 and 9 images"):
        cka_matrix({"a": x, "b": x[:9]}, estimator="debiased")
    with pytest.raises(SimilarityError, match="'b'.*same for every image"):
        cka_matrix({"a": x, "b": np.ones((10, 3))}, estimator="debiased")
    broken = x.copy()
    broken[0, 0] = np.nan
    with pytest.raises(SimilarityError, match="'b'.*finite"):
        cka_matrix({"a": x, "b": broken}, estimator="biased")


def test_options_that_are_not_offered_are_refused() -> None:
    features = {"a": np.random.default_rng(8).normal(size=(10, 3))}
    with pytest.raises(SimilarityError, match="minibatch: got 3 images; at least 4"):
        cka_matrix(features, estimator="minibatch", minibatch=3)
    with pytest.raises(SimilarityError, match="estimator: got 'exact'; allowed are biased, "):
        cka_matrix(features, estimator="exact")  # type: ignore[arg-type]
    with pytest.raises(SimilarityError, match="form: got 'kernel'; allowed are auto, gram, "):
        cka_matrix(features, estimator="biased", form="kernel")  # type: ignore[arg-type]


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("widths", [(3, 5, 4), (60, 3, 80)])
def test_both_forms_and_any_blocks_agree(
    estimator: Estimator, widths: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gram and feature form are the same number, however many rows are streamed at once."""
    rng = np.random.default_rng(5)
    features = {f"m{d}": rng.normal(size=(31, d)) + 5 for d in widths}
    whole = [cka_matrix(features, estimator=estimator, minibatch=10, form=f) for f in FORMS]
    monkeypatch.setattr("mordal_optuna.representation.cka._BLOCK_ENTRIES", 31 * 3 * 7)
    blocks = cka_matrix(features, estimator=estimator, minibatch=10, form="gram")
    np.testing.assert_allclose(whole[0], whole[1], atol=1e-10)
    np.testing.assert_allclose(whole[0], blocks, atol=1e-10)


def test_minibatches_are_averaged_before_the_ratio() -> None:
    """Mean of unbiased HSIC over whole minibatches, then the ratio; a rest is left out."""
    rng = np.random.default_rng(6)
    x = rng.normal(size=(26, 4))
    y = x @ rng.normal(size=(4, 6)) + rng.normal(size=(26, 6))
    parts = [(x[i : i + 8], y[i : i + 8]) for i in (0, 8, 16)]
    cross = np.mean([song_hsic(a @ a.T, b @ b.T) for a, b in parts])
    own = [np.mean([song_hsic(p[k] @ p[k].T, p[k] @ p[k].T) for p in parts]) for k in (0, 1)]
    found = cka_matrix({"x": x, "y": y}, estimator="minibatch", minibatch=8)[0, 1]
    assert found == pytest.approx(cross / np.sqrt(own[0] * own[1]))


def test_the_cheaper_form_has_fewer_multiplications() -> None:
    assert cheaper_form(10_000, [64, 64]) == "feature"
    assert cheaper_form(256, [4096, 4096]) == "gram"
    assert cheaper_form(2048, [2048] * 49) == "gram"


def test_single_precision_is_close_even_with_a_large_offset() -> None:
    import torch

    rng = np.random.default_rng(7)
    x = rng.normal(size=(60, 8))
    y = x @ rng.normal(size=(8, 8)) + 0.5 * rng.normal(size=(60, 8))
    exact = pair(x, y, "debiased")
    offset = {"x": x + 1e6, "y": y + 1e6}
    single = cka_matrix(offset, estimator="debiased", dtype=torch.float32)
    assert single[0, 1] == pytest.approx(exact, abs=1e-5)
