"""Curves of the reference answers' likelihood, read off as errors.

Where scores still sit at chance their curves say nothing; the likelihood of the right answers
moves from the first samples on, and is taken to be log-linear in them as errors are.

Symbols:
    u     ln of the mean -ln p of the reference answers
    y     ln error
    u(D)  u extrapolated to a full alignment, with standard error s_u
    A, B  the pool's line y = A + B u, over all its scores
    h     spread of single scores around that line
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mordal_optuna.errors import SearchError
from mordal_optuna.search.curves import fit_log_linear, pooled_slope, stable_window
from mordal_optuna.search.ranking import Belief, Ranker

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
class PooledLine:
    """The pool's line from u to y.

    Attributes:
        intercept: A.
        slope: B.
        spread: h.
    """

    intercept: float
    slope: float
    spread: float

    def read(self, u: float, s: float) -> tuple[float, float]:
        """The error that goes with a likelihood, and its standard error."""
        return self.intercept + self.slope * u, float(np.hypot(self.slope * s, self.spread))


def pooled_line(measurements: Sequence[Measurement]) -> PooledLine:
    """Fit the line through all scores of a pool, its slope shrunk toward 1.

    Weighted least squares with one more observation B = 1 with noise .5, as in `fit_log_linear`;
    the weights are those of the scores' own noise with h added in squares.

    Args:
        measurements: at least one, each with a likelihood.

    Raises:
        SearchError: if one has none.
    """
    u = np.array([LikelihoodPoint.of(m).log_error for m in measurements])
    y = np.array([m.log_error for m in measurements])
    noise = np.array([m.log_noise for m in measurements])
    slope, spread = _SLOPE, _SPREAD
    for _ in range(20):  # a fixed point of h; far fewer are needed
        weight = 1 / (noise**2 + spread**2)
        centre_u, centre_y = np.average(u, weights=weight), np.average(y, weights=weight)
        up = weight @ ((u - centre_u) * (y - centre_y)) + _SLOPE * _SLOPE_SPREAD**-2
        slope = up / (weight @ (u - centre_u) ** 2 + _SLOPE_SPREAD**-2)
        residual = y - centre_y - slope * (u - centre_u)
        excess = max(float((residual**2 - noise**2).sum()), 0.0)
        spread = float(np.sqrt((2 * _SPREAD**2 + excess) / (2 + len(y))))
    return PooledLine(float(centre_y - slope * centre_u), float(slope), spread)


class LikelihoodRanker(Ranker):
    """Ranks as `Ranker` does, but extrapolates the likelihood and reads the error off it."""

    def extrapolations(self, history: History) -> Beliefs:
        """What the likelihood's curves say of candidates with at least p points below D.

        Raises:
            SearchError: if a score came without its likelihood.
        """
        windows = {
            candidate: stable_window([LikelihoodPoint.of(m) for m in below], least=self._points)
            for candidate, known in history.candidates.items()
            if len(below := self._below(known)) >= self._points
        }
        if not windows:
            return {}
        slopes = pooled_slope([fit_log_linear(window) for window in windows.values()])
        line = pooled_line([m for k in history.candidates.values() for m in k.measurements])
        found: dict[Candidate, Belief] = {}
        for candidate, window in windows.items():
            fit = fit_log_linear(window, slopes)
            y, s = line.read(*fit.log_error(self._full))
            found[candidate] = Belief(y, s, "extrapolated", fit.rising)
        return found
