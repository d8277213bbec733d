"""LogME: log of the maximum evidence of a linear model (You et al. 2021, ICML).

Symbols:
    F, N, D    features, N documents x D wide
    y          one output of the target, N values
    a, b       precision of the weights w ~ N(0, I/a) and of the noise, y | w ~ N(Fw, I/b)
    t          a / b
    k          rank of F
    s_i, u_i   singular values above 0 and left singular vectors of F
    x_i        u_i . y
    rest       |y|^2 - sum x_i^2: squared norm of the part of y outside the column space of F
    gamma      effective number of parameters, sum s_i^2 / (s_i^2 + t)
    m          posterior mean of w
    A          a I + b F'F, the posterior precision of w, D x D

The log evidence is

    D/2 ln a + N/2 ln b - N/2 ln 2 pi - b/2 |y - Fm|^2 - a/2 |m|^2 - 1/2 ln|A|
    ln|A| = sum_{i <= k} ln(a + b s_i^2) + (D - k) ln a

The widespread implementation omits the last term, which is 0 only for k = D: for D > N its score
grows with D, whatever the features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mordal_optuna.errors import RivalError
from mordal_optuna.rivals.checks import Floats, classes, column_space, matrix, one_hot

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

# MacKay's iteration converges geometrically; without any signal t grows without bound.
_STEPS = 10_000
_TOLERANCE = 1e-8
_EXTREME = 1e12
# Constants of the widespread implementation.
_THEIR_STEPS = 11
_THEIR_TOLERANCE = 1e-3
_THEIR_EPSILON = 1e-5
_THEIR_ZERO = 1e-10


@dataclass(frozen=True)
class Evidence:
    """The maximum evidence of one output.

    Attributes:
        value: log evidence divided by N, in nats.
        weight_precision: a at the maximum, above 0.
        noise_precision: b at the maximum, above 0.
    """

    value: float
    weight_precision: float
    noise_precision: float


def logme(features: ArrayLike, labels: ArrayLike, *, compatible: bool = False) -> float:
    """LogME of a classification: the mean over one-vs-all outputs.

    Args:
        features: F, N x D.
        labels: class number of each document; documents labelled `checks.NONE` are left out.
        compatible: whether to reproduce the widespread implementation.

    Returns:
        Nats per document; higher is better.

    Raises:
        RivalError: if shapes do not match, or there are fewer than two classes.
    """
    checked = matrix("features", features)
    numbers, kept = classes(labels, rows=len(checked))
    return logme_of_outputs(checked[kept], one_hot(numbers), compatible=compatible)


def logme_of_outputs(
    features: ArrayLike, outputs: ArrayLike, *, compatible: bool = False
) -> float:
    """LogME of a regression: the mean over outputs.

    Args:
        features: F, N x D.
        outputs: N x C; used without standardisation.
        compatible: whether to reproduce the widespread implementation.

    Returns:
        Nats per document; higher is better.

    Raises:
        RivalError: for the same reasons as `evidences`.
    """
    maxima = evidences(features, outputs, compatible=compatible)
    return float(np.mean([evidence.value for evidence in maxima]))


def evidences(
    features: ArrayLike, outputs: ArrayLike, *, compatible: bool = False
) -> tuple[Evidence, ...]:
    """The maximum evidence of each output.

    Args:
        features: F, N x D.
        outputs: N x C.
        compatible: whether to reproduce the widespread implementation.

    Raises:
        RivalError: if shapes do not match, all features are 0, or an output is 0 for all
            documents (the evidence then has no maximum).
    """
    checked = matrix("features", features)
    targets = matrix("outputs", outputs, rows=len(checked))
    if not checked.any():
        raise RivalError("all features are 0; LogME needs some that are not")
    if not compatible and not targets.any(axis=0).all():
        raise RivalError(
            "an output is 0 for every document; its evidence has no maximum: leave it out"
        )
    spectrum = _Spectrum.of(checked, compatible=compatible)
    maximise = _their_maximum if compatible else _maximum
    return tuple(maximise(spectrum, y) for y in targets.T)


@dataclass(frozen=True)
class _Spectrum:
    left: Floats  # N x k
    squares: Floats  # s_i^2, k
    width: int  # D

    @staticmethod
    def of(features: Floats, *, compatible: bool) -> _Spectrum:
        n, width = features.shape
        if not compatible:
            left, singular = column_space(features)
            return _Spectrum(left, singular**2, width)
        left, singular, _ = np.linalg.svd(features, full_matrices=False)
        # the widespread implementation truncates only for N > D
        rank = int(np.sum(singular > _THEIR_ZERO)) if n > width else n
        return _Spectrum(left[:, :rank], singular[:rank] ** 2, width)

    def project(self, y: Floats) -> tuple[Floats, float]:
        """x_i^2, and the rest."""
        squares = (self.left.T @ y) ** 2
        return squares, max(float(y @ y - squares.sum()), 0.0)


def _maximum(spectrum: _Spectrum, y: Floats) -> Evidence:
    """MacKay's fixed point (1992): a = gamma / |m|^2, b = (N - gamma) / |y - Fm|^2."""
    x2, rest = spectrum.project(y)
    squares, n = spectrum.squares, len(y)
    top = float(squares.max())
    t = float(squares.mean())  # in units of the features, so that no scale is favoured
    for _ in range(_STEPS):
        weights, residual = _posterior(squares, x2, rest, t)
        gamma = float(np.sum(squares / (squares + t)))
        # N - gamma without cancellation
        free = n - len(squares) + float(np.sum(t / (squares + t)))
        if weights == 0:  # y lies outside the column space: no signal
            t = _EXTREME * top
            break
        before, ratio = t, gamma * residual / (weights * free)
        t = float(np.clip(ratio, top / _EXTREME, _EXTREME * top))
        if abs(np.log(t / before)) < _TOLERANCE:
            break
    # given t, the maximum over the common scale of a and b has a closed form
    b = n / float(np.sum(x2 / (1 + squares / t)) + rest)
    return Evidence(_log_evidence(spectrum, x2, rest, n, t * b, b) / n, t * b, b)


def _posterior(squares: Floats, x2: Floats, rest: float, t: float) -> tuple[float, float]:
    """|m|^2 and |y - Fm|^2."""
    weights = float(np.sum(squares * x2 / (squares + t) ** 2))
    return weights, float(np.sum(x2 * (t / (squares + t)) ** 2)) + rest


def _log_evidence(
    spectrum: _Spectrum, x2: Floats, rest: float, n: int, a: float, b: float
) -> float:
    """Log evidence at any a and b; (D - k)/2 ln a cancels against D/2 ln a before rounding."""
    t = a / b
    weights, residual = _posterior(spectrum.squares, x2, rest, t)
    return float(
        n / 2 * np.log(b / (2 * np.pi))
        - np.sum(np.log1p(spectrum.squares / t)) / 2
        - b / 2 * residual
        - a / 2 * weights
    )


def _their_maximum(spectrum: _Spectrum, y: Floats) -> Evidence:
    """The result of the widespread implementation.

    At most 11 steps from a = b = 1; 1e-5 is added to denominators; |m|^2 and the residual are
    those of the previous step's a and b; the term (D - k) ln a is missing.
    """
    x2, rest = spectrum.project(y)
    squares, n = spectrum.squares, len(y)
    a = b = 1.0
    for _ in range(_THEIR_STEPS):
        t = a / b
        weights, residual = _posterior(squares, x2, rest, t)
        gamma = float(np.sum(squares / (squares + t)))
        a = gamma / (weights + _THEIR_EPSILON)
        b = (n - gamma) / (residual + _THEIR_EPSILON)
        if abs(a / b - t) / t <= _THEIR_TOLERANCE:
            break
    value = (
        spectrum.width / 2 * np.log(a)
        + n / 2 * np.log(b / (2 * np.pi))
        - np.sum(np.log(a + b * squares)) / 2
        - b / 2 * residual
        - a / 2 * weights
    )
    return Evidence(float(value) / n, a, b)
