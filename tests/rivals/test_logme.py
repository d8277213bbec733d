"""LogME: the evidence, its maximum, its invariances, and the widespread omission."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mordal_optuna.errors import RivalError
from mordal_optuna.rivals.checks import NONE
from mordal_optuna.rivals.logme import evidences, logme, logme_of_outputs


def noise(n: int, width: int, outputs: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, width)), rng.standard_normal((n, outputs))


def signal(n: int, width: int, share: float = 0.8) -> tuple[np.ndarray, np.ndarray]:
    features, error = noise(n, width)
    seen = features @ np.random.default_rng(1).standard_normal((width, 1)) / width**0.5
    return features, share**0.5 * seen + (1 - share) ** 0.5 * error


def dense(features: np.ndarray, y: np.ndarray, a: float, b: float) -> float:
    """The marginal likelihood y ~ N(0, I / b + F F' / a), without a decomposition."""
    covariance = np.eye(len(y)) / b + features @ features.T / a
    return float(stats.multivariate_normal(np.zeros(len(y)), covariance).logpdf(y)) / len(y)


@pytest.mark.parametrize("width", [20, 60, 100, 300])
def test_the_value_is_the_marginal_likelihood_at_its_a_and_b(width: int) -> None:
    """N = 100: D below, equal to and above N, and features of lower rank."""
    features, y = signal(100, width)
    repeated = np.hstack([features, features[:, : width // 2]])
    for known in (features, repeated):
        (found,) = evidences(known, y)
        a, b = found.weight_precision, found.noise_precision
        assert found.value == pytest.approx(dense(known, y[:, 0], a, b), abs=1e-6)


@pytest.mark.parametrize("width", [20, 100, 300])
def test_no_a_and_b_nearby_have_a_higher_evidence(width: int) -> None:
    features, y = signal(100, width)
    (found,) = evidences(features, y)
    for by_a in np.logspace(-0.5, 0.5, 5):
        for by_b in np.logspace(-0.5, 0.5, 5):
            a, b = found.weight_precision * by_a, found.noise_precision * by_b
            assert dense(features, y[:, 0], a, b) <= found.value + 1e-9


def test_the_published_vectors() -> None:
    """N = 200, D = 1000, noise explaining noise: +11.72 by the widespread form, -1.51 in truth.

    Nothing is to be learnt, so the truth is that of y ~ N(0, s^2 I); the draw is not known, s^2
    and with it both values differ a little between draws.
    """
    features, y = noise(200, 1000)
    assert logme_of_outputs(features, y, compatible=True) == pytest.approx(11.72, abs=0.5)
    right = logme_of_outputs(features, y)
    assert right == pytest.approx(-1.51, abs=0.1)
    assert right == pytest.approx(-0.5 * np.log(2 * np.pi * np.e * np.mean(y**2)), abs=0.01)


def test_both_forms_agree_where_documents_outnumber_features() -> None:
    """They differ only by the looser convergence of the compatible form."""
    features, y = signal(400, 50)
    assert logme_of_outputs(features, y) == pytest.approx(
        logme_of_outputs(features, y, compatible=True), abs=1e-3
    )


def test_the_compatible_form_grows_with_width_and_ours_does_not() -> None:
    ours, theirs = [], []
    for width in (250, 500, 1000):
        features, y = noise(200, width)
        ours.append(logme_of_outputs(features, y))
        theirs.append(logme_of_outputs(features, y, compatible=True))
    assert theirs[0] + 2 < theirs[1] < theirs[2] - 4
    assert np.ptp(ours) < 0.1


def test_the_omitted_term_is_the_whole_difference() -> None:
    """(D - k) / 2N ln a."""
    features, y = signal(100, 300)
    (theirs,) = evidences(features, y, compatible=True)
    a, b = theirs.weight_precision, theirs.noise_precision
    missing = (300 - 100) / (2 * 100) * np.log(a)
    assert theirs.value - missing == pytest.approx(dense(features, y[:, 0], a, b), abs=0.01)


@pytest.mark.parametrize("width", [50, 300])
def test_invariances(width: int) -> None:
    """Rotations, scales and empty columns of the features change nothing; |y| shifts by ln c."""
    features, y = signal(100, width)
    value = logme_of_outputs(features, y)
    turn = stats.special_ortho_group(width, seed=0).rvs()
    assert logme_of_outputs(features @ turn, y) == pytest.approx(value, abs=1e-6)
    assert logme_of_outputs(1e3 * features, y) == pytest.approx(value, abs=1e-6)
    padded = np.hstack([features, np.zeros((100, 40))])
    assert logme_of_outputs(padded, y) == pytest.approx(value, abs=1e-6)
    assert logme_of_outputs(features, 5 * y) == pytest.approx(value - np.log(5), abs=1e-6)
    order = np.random.default_rng(2).permutation(100)
    assert logme_of_outputs(features[order], y[order]) == pytest.approx(value, abs=1e-6)


def test_the_compatible_form_depends_on_the_scale_of_wide_features() -> None:
    features, y = signal(100, 300)
    small = logme_of_outputs(features / 10, y, compatible=True)
    assert logme_of_outputs(features, y, compatible=True) > small + 1


def test_a_classification_is_the_mean_over_one_against_all_outputs() -> None:
    features, _ = noise(60, 10)
    labels = np.arange(60) % 3
    each = [logme_of_outputs(features, (labels == c)[:, None].astype(float)) for c in range(3)]
    assert logme(features, labels) == pytest.approx(np.mean(each))


def test_documents_without_a_class_are_left_out() -> None:
    features, _ = noise(60, 10)
    labels = np.arange(60) % 3
    labels[::7] = NONE
    kept = labels != NONE
    assert logme(features, labels) == logme(features[kept], labels[kept])


def test_features_that_tell_the_classes_score_higher() -> None:
    features, _ = noise(200, 30)
    labels = np.arange(200) % 4
    told = features.copy()
    told[:, :4] += 2 * np.eye(4)[labels]
    assert logme(told, labels) > logme(features, labels) + 0.05


def test_labels_that_lie_wholly_inside_or_outside_the_span_have_a_value() -> None:
    """Without noise and without signal, both limits of the iteration are finite."""
    features, _ = noise(50, 5)
    left = np.linalg.svd(features)[0]
    inside, outside = left[:, :1], left[:, -1:]
    assert np.isfinite(logme_of_outputs(features, inside))
    assert logme_of_outputs(features, outside) == pytest.approx(
        -0.5 * np.log(2 * np.pi * np.e / 50), abs=1e-6
    )
    exactly = logme_of_outputs([[1.0], [0.0]], [[0.0], [1.0]])
    assert exactly == pytest.approx(-0.5 * np.log(2 * np.pi * np.e / 2), abs=1e-6)
    assert np.isfinite(logme_of_outputs([[1.0], [0.0]], [[1.0], [0.0]]))


def test_what_has_no_evidence_is_refused() -> None:
    features, y = noise(20, 5)
    with pytest.raises(RivalError, match="output is 0"):
        logme_of_outputs(features, 0 * y)
    with pytest.raises(RivalError, match="all features are 0"):
        logme_of_outputs(0 * features, y)
    with pytest.raises(RivalError, match="20 rows"):
        logme_of_outputs(features, y[:10])
