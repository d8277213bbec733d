"""How good a ranking is, against the truth.

Symbols:
    e_i, t_i   estimate and true score of candidate i
    tau        weighted Kendall's tau, weights 1 / (rank + 1) of both rankings, added
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

    Ties count as scipy counts them: a pair tied in one ranking is left out of the numerator and
    of that ranking's norm, so a ranking of few distinct values is not punished for them; see
    `weighted_tau_random_ties`.

    Args:
        estimates: one a candidate, higher is better.
        truths: the same candidates' true scores.

    Returns:
        tau; 0 where all estimates or all truths are equal, which rank nobody.

    Raises:
        SearchError: for unequal lengths, fewer than two candidates, or a value that is no number,
            which scipy would rank last without a word.
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

    What a user gets who must take the tied in some order.

    Args:
        estimates: one a candidate, higher is better.
        truths: the same candidates' true scores; their own ties stay.
        draws: random orders.
        seed: of these.

    Raises:
        SearchError: as `weighted_tau`.
    """
    e = np.asarray(estimates, dtype=float)
    weighted_tau(estimates, truths)
    if len(np.unique(e)) == len(e):
        return weighted_tau(estimates, truths)
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(draws):
        order = np.lexsort((rng.random(len(e)), e))
        ranks = np.empty(len(e))
        ranks[order] = np.arange(len(e))
        found.append(weighted_tau(ranks.tolist(), truths))
    return float(np.mean(found))


def interval_of_mean(values: Sequence[float], *, confidence: float = 0.95) -> tuple[float, float]:
    """Mean, and half the width of Student's t interval around it; 0 wide for a single value."""
    data = np.asarray(values, dtype=float)
    if len(data) < 2:
        return float(data.mean()), 0.0
    half = stats.t.ppf(0.5 + confidence / 2, len(data) - 1) * data.std(ddof=1) / len(data) ** 0.5
    return float(data.mean()), float(half)
