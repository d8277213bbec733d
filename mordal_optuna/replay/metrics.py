"""Figures of merit of a ranking against the true scores.

Symbols:
    e_i, t_i   estimate and true score of candidate i
    tau        weighted Kendall's tau; the weight is the sum of 1 / (rank + 1) of both rankings
               (Vigna 2015, as scipy.stats.weightedtau computes it)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from mordal_optuna.errors import SearchError

if TYPE_CHECKING:
    from collections.abc import Sequence


def weighted_tau(estimates: Sequence[float], truths: Sequence[float]) -> float:
    """Weighted Kendall's tau, -1..1; mistakes at the top weigh most.

    Ties count as in scipy: a tied pair is left out of the numerator and of the norm of the ranking
    that ties it, so a ranking of few distinct values is not penalised; see
    `weighted_tau_random_ties`.

    Args:
        estimates: estimate of each candidate, higher is better.
        truths: true score of each candidate, in the same order.

    Returns:
        tau; 0 if all estimates or all truths are equal and so rank nothing.

    Raises:
        SearchError: if the lengths differ, there are fewer than two candidates, or a value is not
            a finite number (scipy would silently rank NaN last).
    """
    e, t = np.asarray(estimates, dtype=float), np.asarray(truths, dtype=float)
    if e.shape != t.shape or e.ndim != 1 or len(e) < 2:
        raise SearchError(
            f"a rank correlation of {e.shape} estimates and {t.shape} scores was asked for; two "
            "lists of equal length, at least 2, are needed"
        )
    if not (np.isfinite(e).all() and np.isfinite(t).all()):
        raise SearchError("a rank correlation was asked for with a value that is no number")
    if np.ptp(e) == 0 or np.ptp(t) == 0:
        return 0.0
    return float(stats.weightedtau(e, t).statistic)


def weighted_tau_random_ties(
    estimates: Sequence[float], truths: Sequence[float], *, draws: int = 100, seed: int = 0
) -> float:
    """Mean weighted tau over random orders of equal estimates.

    This is what a user can expect who must take tied candidates in some order.

    Args:
        estimates: estimate of each candidate, higher is better.
        truths: true score of each candidate, in the same order; ties among them stay.
        draws: number of random orders, at least 1.
        seed: random seed of the orders.

    Raises:
        SearchError: if no order is to be drawn, or as in `weighted_tau`.
    """
    if draws < 1:
        raise SearchError(f"draws: got {draws}; it must be at least 1")
    e = np.asarray(estimates, dtype=float)
    plain = weighted_tau(estimates, truths)
    if len(np.unique(e)) == len(e):
        return plain
    rng = np.random.default_rng(seed)
    taus = []
    for _ in range(draws):
        order = np.lexsort((rng.random(len(e)), e))
        ranks = np.empty(len(e))
        ranks[order] = np.arange(len(e))
        taus.append(weighted_tau(ranks.tolist(), truths))
    return float(np.mean(taus))


def tau_of_top(estimates: Sequence[float], truths: Sequence[float], count: int = 10) -> float:
    """Weighted tau among the candidates with the highest true scores.

    Args:
        estimates: estimate of each candidate, higher is better.
        truths: true score of each candidate, in the same order.
        count: number of candidates that are compared.

    Returns:
        tau; 0 if fewer than two candidates are compared.
    """
    best = np.argsort(truths, kind="stable")[::-1][:count]
    if len(best) < 2:
        return 0.0
    return weighted_tau([estimates[i] for i in best], [truths[i] for i in best])


def interval_of_mean(values: Sequence[float], *, confidence: float = 0.95) -> tuple[float, float]:
    """Mean, and half the width of Student's t interval around it; 0 for a single value.

    Args:
        values: at least one value.
        confidence: probability that the interval holds the mean, between 0 and 1.

    Raises:
        SearchError: if there is no value, or the confidence is not between 0 and 1.
    """
    if not len(values) or not 0 < confidence < 1:
        raise SearchError(
            f"an interval of {len(values)} values at confidence {confidence} was asked for; at "
            "least 1 value and a confidence between 0 and 1 are needed"
        )
    data = np.asarray(values, dtype=float)
    if len(data) < 2:
        return float(data.mean()), 0.0
    half = stats.t.ppf(0.5 + confidence / 2, len(data) - 1) * data.std(ddof=1) / len(data) ** 0.5
    return float(data.mean()), float(half)
