"""The paper's curve: a plain line through the last points, accepted if its residuals are small.

Symbols:
    x, y   ln samples and ln error of a point
    p      points of a curve
    delta  largest mean squared residual of an accepted fit
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mordal_optuna.search.bounds import require
from mordal_optuna.search.curves import Fit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mordal_optuna.search.curves import Measurement


def fit_as_in_paper(
    points: Sequence[Measurement], *, points_needed: int, delta: float
) -> Fit | None:
    """The paper's rule: a plain line through the last p points, accepted if its loss < delta.

    Args:
        points: scores by ascending samples.
        points_needed: p, at least 2.
        delta: largest mean squared residual of ln error, above 0.

    Returns:
        The fit, with the covariance of least squares under the known noise; None if there are
        fewer than p points or the loss is too large.

    Raises:
        SearchError: if an argument is out of its range.
    """
    require(points_needed >= 2, "points_needed", points_needed, "at least 2")
    require(delta > 0, "delta", delta, "above 0")
    if len(points) < points_needed:
        return None
    last = points[-points_needed:]
    x = np.log([point.samples for point in last])
    y = np.array([point.log_error for point in last])
    noise = np.array([point.log_noise for point in last])
    design = np.stack([np.ones_like(x), x], axis=1)
    solve = np.linalg.pinv(design)
    intercept, slope = solve @ y
    residual = y - design @ np.array([intercept, slope])
    loss = float(np.mean(residual**2))
    if loss >= delta:
        return None
    return Fit(
        intercept=float(intercept),
        slope=float(slope),
        middle=(float(x.mean()), float(y.mean())),
        covariance=_as_rows((solve * noise**2) @ solve.T),
        chi_square=float(np.sum((residual / noise) ** 2)),
        freedom=len(last) - 2,
        first=last[0].samples,
        last=last[-1].samples,
        loss=loss,
        may_rise=True,
    )


def _as_rows(matrix: np.ndarray) -> tuple[tuple[float, float], tuple[float, float]]:
    (p, q), (r, s) = matrix.tolist()
    return ((p, q), (r, s))
