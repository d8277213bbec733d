"""LogME: log of the maximum evidence of a linear model (You et al. 2021, ICML).

Symbols:
    F, N, D    features, N documents x D wide
    y          one output of the target, N values
    a, b       precision of the weights w ~ N(0, I/a) and of the noise, y | w ~ N(Fw, I/b)
    t          a / b
    k          rank of F
    s_i, u_i   singular values above 0 and left singular vectors of F
    x_i        u_i . y
    rest       |y|^2 - sum x_i^2: what of y lies outside the span of F
    gamma      effective number of parameters, sum s_i^2 / (s_i^2 + t)
    m          posterior mean of w
    A          a I + b F'F, the posterior precision of w, D x D

The log evidence is

    D/2 ln a + N/2 ln b - N/2 ln 2 pi - b/2 |y - Fm|^2 - a/2 |m|^2 - 1/2 ln|A|
    ln|A| = sum_{i <= k} ln(a + b s_i^2) + (D - k) ln a

The widespread implementation leaves out the last term, which is 0 only for k = D: where the
features are wider than the documents are many, its score grows with the width alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mordal_optuna.errors import RivalError
from mordal_optuna.rivals.checks import Floats, classes, matrix

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

# MacKay's iteration converges geometrically; where there is nothing to learn t grows without end.
_STEPS = 10_000
_TOLERANCE = 1e-8
_EXTREME = 1e12
# The widespread implementation's own numbers.
_THEIR_STEPS = 11
_THEIR_TOLERANCE = 1e-3
_THEIR_EPSILON = 1e-5
_THEIR_ZERO = 1e-10


@dataclass(frozen=True)
class Evidence:
    """The evidence of one output.

    Attributes:
        value: its logarithm, divided by N.
        weight_precision: a.
        noise_precision: b.
    """

    value: float
    weight_precision: float
    noise_precision: float


def logme(features: ArrayLike, labels: ArrayLike, *, compatible: bool = False) -> float:
    """LogME of a classification: the mean over one-vs-all outputs.

    Args:
        features: F, N x D.
        labels: a class a document; documents of class `checks.NONE` are left out.
        compatible: reproduce the widespread implementation.

    Returns:
        Nats a document, higher is better.

    Raises:
        RivalError: if the arrays do not fit, or there are fewer than two classes.
    """
    known = matrix("features", features)
    numbers, kept = classes(labels, rows=len(known))
    one_hot = np.eye(int(numbers.max()) + 1)[numbers]
    return logme_of_outputs(known[kept], one_hot, compatible=compatible)


def logme_of_outputs(
    features: ArrayLike, outputs: ArrayLike, *, compatible: bool = False
) -> float:
    """LogME of a regression: the mean over outputs, taken as they are.

    Args:
        features: F, N x D.
        outputs: N x C.
        compatible: reproduce the widespread implementation.

    Returns:
        Nats a document, higher is better.

    Raises:
        RivalError: as `evidences`.
    """
    found = evidences(features, outputs, compatible=compatible)
    return float(np.mean([evidence.value for evidence in found]))


def evidences(
    features: ArrayLike, outputs: ArrayLike, *, compatible: bool = False
) -> tuple[Evidence, ...]:
    """The maximum evidence of each output.

    Args:
        features: F, N x D.
        outputs: N x C.
        compatible: reproduce the widespread implementation.

    Raises:
        RivalError: if the arrays do not fit, all features are 0, or an output is 0 everywhere,
            whose evidence has no maximum.
    """
    known = matrix("features", features)
    wanted = matrix("outputs", outputs, rows=len(known))
    if not known.any():
        raise RivalError("all features are 0; LogME needs some that are not")
    if not compatible and not wanted.any(axis=0).all():
        raise RivalError(
            "an output is 0 for every document; its evidence has no maximum: leave it out"
        )
    spectrum = _Spectrum.of(known, compatible=compatible)
    maximise = _their_maximum if compatible else _maximum
    return tuple(maximise(spectrum, y) for y in wanted.T)


@dataclass(frozen=True)
class _Spectrum:
    left: Floats  # N x k
    squares: Floats  # s_i^2, k
    width: int  # D

    @staticmethod
    def of(features: Floats, *, compatible: bool) -> _Spectrum:
        left, singular, _ = np.linalg.svd(features, full_matrices=False)
        n, width = features.shape
        if compatible:  # truncates only where N > D
            rank = int(np.sum(singular > _THEIR_ZERO)) if n > width else n
        else:
            least = singular[0] * max(n, width) * np.finfo(float).eps
            rank = int(np.sum(singular > least))
        return _Spectrum(left[:, :rank], singular[:rank] ** 2, width)

    def seen(self, y: Floats) -> tuple[Floats, float]:
        """x_i^2, and the rest."""
        squares = (self.left.T @ y) ** 2
        return squares, max(float(y @ y - squares.sum()), 0.0)


def _maximum(spectrum: _Spectrum, y: Floats) -> Evidence:
    """MacKay's fixed point (1992): a = gamma / |m|^2, b = (N - gamma) / |y - Fm|^2."""
    x2, rest = spectrum.seen(y)
    squares, n = spectrum.squares, len(y)
    top = float(squares.max())
    t = float(squares.mean())  # of the features' own scale, so that no scale is favoured
    for _ in range(_STEPS):
        weights, residual = _posterior(squares, x2, rest, t)
        gamma = float(np.sum(squares / (squares + t)))
        # N - gamma without cancellation
        free = n - len(squares) + float(np.sum(t / (squares + t)))
        if weights == 0:  # y lies wholly outside the span: nothing to learn
            t = _EXTREME * top
            break
        before, ratio = t, gamma * residual / (weights * free)
        t = float(np.clip(ratio, top / _EXTREME, _EXTREME * top))
        if abs(np.log(t / before)) < _TOLERANCE:
            break
    # given t, the best scale of both is known in closed form
    b = n / float(np.sum(x2 / (1 + squares / t)) + rest)
    return Evidence(_log_evidence(spectrum, x2, rest, n, t * b, b) / n, t * b, b)


def _posterior(squares: Floats, x2: Floats, rest: float, t: float) -> tuple[float, float]:
    """|m|^2 and |y - Fm|^2."""
    weights = float(np.sum(squares * x2 / (squares + t) ** 2))
    return weights, float(np.sum(x2 * (t / (squares + t)) ** 2)) + rest


def _log_evidence(
    spectrum: _Spectrum, x2: Floats, rest: float, n: int, a: float, b: float
) -> float:
    """At any a and b; (D - k) ln a cancels against D/2 ln a before anything is rounded."""
    t = a / b
    weights, residual = _posterior(spectrum.squares, x2, rest, t)
    return float(
        n / 2 * np.log(b / (2 * np.pi))
        - np.sum(np.log1p(spectrum.squares / t)) / 2
        - b / 2 * residual
        - a / 2 * weights
    )


def _their_maximum(spectrum: _Spectrum, y: Floats) -> Evidence:
    """As the widespread implementation does it.

    At most 11 steps from a = b = 1, 1e-5 added to what is divided by, |m|^2 and the residual
    taken at the a and b of the step before, and no (D - k) ln a.
    """
    x2, rest = spectrum.seen(y)
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
