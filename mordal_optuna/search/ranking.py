"""Ranking: what is believed of every candidate at r = 1, and how it is known.

Symbols:
    y, s   predicted ln error of a candidate at r = 1, and its standard error
    b, w   mean slope of the fitted curves, and their spread
    z      normal quantile of the confidence level
    g      spread of the candidates of one cluster around their mean, in ln error
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Literal

import numpy as np

from mordal_optuna.search.curves import Fit, fit_log_linear

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.clusters import ClusterTree
    from mordal_optuna.search.history import History

Known = Literal["measured", "extrapolated", "inferred"]

# Mean and spread of the slope before any curve of the pool is known: between a flat curve and an
# error that halves with four times the data.
_SLOPE_PRIOR = (-0.25, 0.25)
# Spread of ln error inside a cluster before two of its candidates are known.
_SPREAD_PRIOR = 0.3


@dataclass(frozen=True)
class Estimate:
    """What is believed of a candidate's score after a full alignment.

    Attributes:
        candidate: the pair.
        value: the estimate, 0..1.
        low: lower end of the interval.
        high: upper end of the interval.
        known: measured (fully trained), extrapolated (from its own curve), inferred (from its
            cluster, or from fewer points than a curve needs and the pool's mean slope).
        samples: highest rung it was scored at; 0 if never trained.
        seconds: device-seconds spent on it.
        rising: its own points asked for an error that grows with data, which was not followed.
    """

    candidate: Candidate
    value: float
    low: float
    high: float
    known: Known
    samples: int
    seconds: float
    rising: bool = False


@dataclass(frozen=True)
class _Belief:
    y: float
    s: float
    known: Known
    rising: bool = False


class Ranker:
    """Turns a history into a ranking of the whole pool."""

    def __init__(
        self, tree: ClusterTree, rungs: Sequence[int], *, confidence: float, points: int
    ) -> None:
        """Rank a pool.

        Args:
            tree: the pool and its clusters.
            rungs: ascending sample counts; the last is the full alignment set.
            confidence: of the intervals, 0..1.
            points: p, the highest rungs that a curve is fitted to.
        """
        self._tree = tree
        self._full = rungs[-1]
        self._points = points
        self._z = NormalDist().inv_cdf(0.5 + confidence / 2)

    def fits(self, history: History) -> dict[Candidate, Fit]:
        """The curves of all candidates with at least p points below the full alignment set."""
        fits = {}
        for candidate in self._tree.candidates:
            below = [m for m in history.of(candidate).measurements if m.samples < self._full]
            if len(below) >= self._points:
                fits[candidate] = fit_log_linear(below[-self._points :])
        return fits

    def rank(self, history: History) -> tuple[Estimate, ...]:
        """All candidates of the pool, best estimate first; ties in the pool's order."""
        beliefs = self._from_scores(history)
        for candidate in self._tree.candidates:
            if candidate not in beliefs:
                beliefs[candidate] = self._from_cluster(candidate, self._from_scores(history))
        estimates = [self._estimate(history, c, beliefs[c]) for c in self._tree.candidates]
        return tuple(sorted(estimates, key=lambda e: -e.value))

    def tie_set(self, ranking: Sequence[Estimate]) -> tuple[Estimate, ...]:
        """Those that cannot be told from the best, the best first.

        A candidate is told from the leader if the difference of their values exceeds z times the
        root sum of squares of their standard errors, taken from the nearer sides of their
        intervals.
        """
        leader = ranking[0]
        down = (leader.value - leader.low) ** 2
        return tuple(
            e for e in ranking if leader.value - e.value <= np.sqrt(down + (e.high - e.value) ** 2)
        )

    def _from_scores(self, history: History) -> dict[Candidate, _Belief]:
        fits = self.fits(history)
        slope, spread = _pooled_slope(fits)
        beliefs = {}
        for candidate in self._tree.candidates:
            known = history.of(candidate)
            full = known.at(self._full)
            if full:
                beliefs[candidate] = _Belief(full.log_error, full.log_noise, "measured")
            elif candidate in fits:
                y, s = fits[candidate].log_error(self._full)
                beliefs[candidate] = _Belief(y, s, "extrapolated", fits[candidate].rising)
            elif known.measurements:
                last = known.measurements[-1]
                distance = float(np.log(self._full / last.samples))
                y = last.log_error + slope * distance
                s = float(np.hypot(last.log_noise, spread * distance))
                beliefs[candidate] = _Belief(y, s, "inferred")
        return beliefs

    def _from_cluster(self, candidate: Candidate, beliefs: Mapping[Candidate, _Belief]) -> _Belief:
        own = self._tree.cluster_of(candidate).candidates
        members = [beliefs[c] for c in own if c in beliefs] or list(beliefs.values())
        if not members:  # nothing is known of anyone: half right, give or take everything
            return _Belief(float(np.log(0.5)), 1.0, "inferred")
        weight = np.array([m.s for m in members]) ** -2.0
        ys = np.array([m.y for m in members])
        mean = float(np.average(ys, weights=weight))
        spread = max(float(np.std(ys, ddof=1)) if len(ys) > 1 else 0.0, _SPREAD_PRIOR)
        return _Belief(mean, float(np.hypot(spread, weight.sum() ** -0.5)), "inferred")

    def _estimate(self, history: History, candidate: Candidate, belief: _Belief) -> Estimate:
        known = history.of(candidate)
        reach = self._z * belief.s
        return Estimate(
            candidate=candidate,
            value=_score(belief.y),
            low=_score(belief.y + reach),
            high=_score(belief.y - reach),
            known=belief.known,
            samples=known.top,
            seconds=known.seconds,
            rising=belief.rising,
        )


def _pooled_slope(fits: Mapping[Candidate, Fit]) -> tuple[float, float]:
    """Mean and spread of the slopes.

    The prior counts as two curves, so that a few curves that happen to agree do not pass for
    certainty.
    """
    mean, spread = _SLOPE_PRIOR
    slopes = np.array([mean, mean, *(fit.slope for fit in fits.values())])
    pooled = float(slopes.mean())
    squares = 2 * spread**2 + float(((slopes[2:] - pooled) ** 2).sum())
    return pooled, float(np.sqrt(squares / len(slopes)))


def _score(log_error: float) -> float:
    return float(np.clip(1.0 - np.exp(log_error), 0.0, 1.0))
