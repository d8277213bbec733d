"""Curves of the reference answers' likelihood, read off as errors.

Where scores still sit at chance their curves say nothing; the likelihood of the right answers
moves from the first samples on, and is taken to be log-linear in them as errors are.

Symbols:
    u      ln of the mean -ln p of the reference answers
    y      ln error
    u(D)   u extrapolated to a full alignment, with standard error s_u
    u0     where errors leave chance: above it they stay at c, below it they fall
    c, B   the pool's broken line y = c - B max(0, u0 - u), over all its scores
    h      spread of single scores around that line
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mordal_optuna.errors import SearchError
from mordal_optuna.search.curves import fit_pool
from mordal_optuna.search.ranking import Belief, OneByOneRanker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.curves import Measurement
    from mordal_optuna.search.history import History
    from mordal_optuna.search.ranking import Beliefs

# Before the pool has shown B: errors fall as fast as -ln p does, give or take half of that.
_SLOPE, _SLOPE_SPREAD = 1.0, 0.5
# h before many scores are known; counts as two of them.
_SPREAD = 0.1
# Values of u0 that are tried, and rounds in which h settles.
_STARTS, _ROUNDS = 41, 5


@dataclass(frozen=True)
class LikelihoodPoint:
    """A rung's likelihood in the form that curves are fitted to.

    Attributes:
        samples: the rung.
        log_error: u.
        log_noise: its standard error.
    """

    samples: int
    log_error: float
    log_noise: float

    @staticmethod
    def of(measurement: Measurement) -> LikelihoodPoint:
        """The point of a measurement.

        Raises:
            SearchError: if its likelihood was not measured.
        """
        nll, noise = measurement.nll, measurement.nll_stderr
        if nll is None or noise is None:
            raise SearchError(
                f"the score at {measurement.samples} samples came without the likelihood of "
                "reference answers, which `curve: likelihood` needs at every rung"
            )
        least = 1e-6  # an answer that is certain on every document
        return LikelihoodPoint(
            measurement.samples,
            float(np.log(max(nll, least))),
            max(noise, least) / max(nll, least),
        )


@dataclass(frozen=True)
class BrokenLine:
    """The pool's line from u to y.

    Attributes:
        start: u0.
        level: c.
        slope: B.
        slope_error: standard error of B.
        spread: h.
    """

    start: float
    level: float
    slope: float
    slope_error: float
    spread: float

    def read(self, u: float, s: float) -> tuple[float, float]:
        """The ln error that goes with a likelihood, and its standard error."""
        below = max(0.0, self.start - u)
        slope = self.slope if below else 0.0
        parts = (slope * s, below * self.slope_error, self.spread)
        return self.level - self.slope * below, float(np.linalg.norm(parts))


def pooled_line(measurements: Sequence[Measurement]) -> BrokenLine:
    """Fit the broken line through all scores of a pool, its slope shrunk toward 1.

    For each of a row of u0 the rest is weighted least squares, with one more observation B = 1
    with noise .5 as in `fit_log_linear`; the u0 with the smallest misfit is taken. Weights are
    those of the scores' own noise with h added in squares.

    Args:
        measurements: at least one, each with a likelihood.

    Raises:
        SearchError: if one has none.
    """
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
    """u0, c, B, the standard error of B, and the misfit with that of the prior."""
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


class LikelihoodRanker(OneByOneRanker):
    """Ranks each pair by itself; extrapolates the likelihood and reads the error off it."""

    def extrapolations(self, history: History) -> Beliefs:
        """What the likelihood's curves say of candidates with at least p points below D.

        Raises:
            SearchError: if a score came without its likelihood.
        """
        points = {
            candidate: [LikelihoodPoint.of(m) for m in below]
            for candidate, known in history.candidates.items()
            if len(below := self._below(known)) >= self.points
        }
        if not points:
            return {}
        line = pooled_line([m for k in history.candidates.values() for m in k.measurements])
        found: dict[Candidate, Belief] = {}
        for candidate, fit in fit_pool(points, least=self.points).items():
            y, s = line.read(*fit.log_error(self._full))
            found[candidate] = Belief(y, s, "extrapolated", fit.rising)
        return found
