"""Learning curves of the reference answers' likelihood, converted to errors.

While scores are still at chance their curves carry no information, whereas the likelihood of the
reference answers improves from the first samples on. Its logarithm is assumed to be linear in ln
samples, as ln error is.

Symbols:
    u      ln of the mean -ln p of the reference answers
    s_u    standard error of u
    y      ln error
    u0     value of u at which errors leave chance
    c, B   level and slope of the pool's broken line y = c - B max(0, u0 - u), over all its scores
    h      spread of single scores around that line
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mordal_optuna.errors import SearchError
from mordal_optuna.search.bounds import require

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mordal_optuna.search.curves import Measurement

# Normal prior of B: errors fall as fast as -ln p does; standard deviation one half.
_SLOPE, _SLOPE_SPREAD = 1.0, 0.5
# Prior of h, weighted as two scores.
_SPREAD = 0.1
# Values of u0 that are tried, and iterations of h.
_STARTS, _ROUNDS = 41, 5
# Smallest -ln p and smallest standard error, for answers that are certain on every document.
_LEAST = 1e-6


@dataclass(frozen=True)
class LikelihoodPoint:
    """A rung's likelihood as a point that curves are fitted to.

    Attributes:
        samples: alignment samples at the rung, at least 1.
        log_error: u.
        log_noise: s_u, above 0.
    """

    samples: int
    log_error: float
    log_noise: float

    @staticmethod
    def of(measurement: Measurement) -> LikelihoodPoint:
        """The point of a measurement.

        Raises:
            SearchError: if the measurement has no likelihood.
        """
        nll, noise = measurement.nll, measurement.nll_stderr
        if nll is None or noise is None:
            raise SearchError(
                f"the score at {measurement.samples} samples came without the likelihood of "
                "reference answers, which `curve: likelihood` needs at every rung"
            )
        return LikelihoodPoint(
            measurement.samples,
            float(np.log(max(nll, _LEAST))),
            max(noise, _LEAST) / max(nll, _LEAST),
        )


@dataclass(frozen=True)
class BrokenLine:
    """The pool's broken line, which converts u to y.

    Attributes:
        start: u0.
        level: c.
        slope: B.
        slope_error: standard error of B.
        spread: h, at least 0.
    """

    start: float
    level: float
    slope: float
    slope_error: float
    spread: float

    def log_error(self, u: float, s: float) -> tuple[float, float]:
        """The ln error at a likelihood, and its standard error.

        Args:
            u: ln of the mean -ln p.
            s: standard error of u.
        """
        below = max(0.0, self.start - u)
        slope = self.slope if below else 0.0
        parts = (slope * s, below * self.slope_error, self.spread)
        return self.level - self.slope * below, float(np.linalg.norm(parts))


def pooled_line(measurements: Sequence[Measurement]) -> BrokenLine:
    """Fit the broken line through all scores of a pool, its slope shrunk toward 1.

    For each u0 of a grid, c and B are fitted by weighted least squares, with the prior of B as one
    more observation, B = 1 with standard deviation .5, as in `fit_log_linear`; the u0 with the
    smallest misfit is chosen. A score's weight is 1 / (log_noise^2 + h^2).

    Args:
        measurements: at least one measurement, each with a likelihood.

    Raises:
        SearchError: if there is no measurement, or one has no likelihood.
    """
    require(bool(measurements), "measurements", measurements, "at least one measurement")
    u = np.array([LikelihoodPoint.of(m).log_error for m in measurements])
    y = np.array([m.log_error for m in measurements])
    noise = np.array([m.log_noise for m in measurements])
    spread = _SPREAD
    for _ in range(_ROUNDS):
        weight = 1 / (noise**2 + spread**2)
        fits = [_hinge(u, y, weight, start) for start in np.linspace(u.min(), u.max(), _STARTS)]
        start, level, slope, slope_error, _ = min(fits, key=lambda fit: fit[-1])
        residual = y - level + slope * np.maximum(0, start - u)
        excess = max(float((residual**2 - noise**2).sum()), 0.0)
        spread = float(np.sqrt((2 * _SPREAD**2 + excess) / (2 + len(y))))
    return BrokenLine(start, level, slope, slope_error, spread)


def _hinge(
    u: np.ndarray, y: np.ndarray, weight: np.ndarray, start: float
) -> tuple[float, float, float, float, float]:
    """Fit c and B at a given u0.

    Returns:
        u0, c, B, the standard error of B, and the misfit of scores and prior.
    """
    design = np.stack([np.ones_like(u), -np.maximum(0, start - u)], axis=1)
    precision = design.T @ (weight[:, None] * design)
    precision[1, 1] += _SLOPE_SPREAD**-2
    target = design.T @ (weight * y)
    target[1] += _SLOPE * _SLOPE_SPREAD**-2
    covariance = np.linalg.inv(precision)
    level, slope = covariance @ target
    misfit = weight @ (y - design @ (level, slope)) ** 2
    misfit += ((slope - _SLOPE) / _SLOPE_SPREAD) ** 2
    error = float(np.sqrt(covariance[1, 1]))
    return float(start), float(level), float(slope), error, float(misfit)
