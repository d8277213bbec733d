"""Learning curves: a log-linear fit with known noise, extrapolated to the full alignment set.

Symbols:
    n_i       samples at rung i
    e_i       error 1 - score at rung i, floored at half a document
    s_i       standard error of e_i
    x_i, y_i  ln n_i, ln e_i
    sigma_i   standard error of y_i, s_i / e_i (delta method)
    a, b      intercept and slope of y = a + b x
    C         covariance of (a, b), inverse of X' W X with W = diag(1 / sigma_i^2)
    chi2      sum of ((y_i - a - b x_i) / sigma_i)^2
    D         samples of a full alignment; f(1) is the fitted error there
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from mordal_optuna.errors import SearchError

if TYPE_CHECKING:
    from collections.abc import Sequence

# Noise assumed of ln error where a score came without a standard error (plain Optuna objectives):
# about what 300 documents give at an error of .5.
UNKNOWN_NOISE = 0.06
# Smallest error where the number of documents is unknown.
UNKNOWN_FLOOR = 1e-3


@dataclass(frozen=True)
class Measurement:
    """A score at a rung.

    Attributes:
        samples: alignment samples trained on, at least 1.
        score: the task's main metric, 0..1, higher is better.
        stderr: standard error of the score; None where it is not known.
        documents: documents scored; None where it is not known.
        train_seconds: device-seconds of training from the start up to this rung.
        eval_seconds: device-seconds of this one evaluation.
    """

    samples: int
    score: float
    stderr: float | None = None
    documents: int | None = None
    train_seconds: float = 0.0
    eval_seconds: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what is no score.

        Raises:
            SearchError: if the score is not in 0..1.
        """
        if not 0.0 <= self.score <= 1.0:
            raise SearchError(
                f"score {self.score} at {self.samples} samples; scores must be between 0 and 1, "
                "higher being better"
            )

    @property
    def log_error(self) -> float:
        """Natural logarithm of the error, an error of 0 counting as half a document."""
        floor = 0.5 / self.documents if self.documents else UNKNOWN_FLOOR
        return float(np.log(max(1.0 - self.score, floor)))

    @property
    def log_noise(self) -> float:
        """Standard error of `log_error`, by the delta method."""
        if self.stderr is None:
            return UNKNOWN_NOISE
        if self.documents:
            # With all documents right (or wrong) the sample deviation is 0, which no finite
            # sample supports: the noise is never below that of half a document.
            least = 0.5 / self.documents
            return float(max(self.stderr, least) / np.exp(self.log_error))
        return float(max(self.stderr / np.exp(self.log_error), 1e-6))


@dataclass(frozen=True)
class Fit:
    """A fitted curve.

    Attributes:
        intercept: a, ln error at one sample.
        slope: b, at most 0.
        covariance: C, 2 x 2.
        chi_square: misfit against the known noise.
        freedom: points minus parameters.
        rising: the data asked for a rising error; the slope was held at 0 instead.
    """

    intercept: float
    slope: float
    covariance: tuple[tuple[float, float], tuple[float, float]]
    chi_square: float
    freedom: int
    rising: bool

    @property
    def goodness(self) -> float:
        """Probability of a misfit at least this large if the curve is right; 1 if unchecked."""
        if self.freedom < 1:
            return 1.0
        return float(stats.chi2.sf(self.chi_square, self.freedom))

    def log_error(self, samples: int) -> tuple[float, float]:
        """Predicted ln error at `samples`, and its standard error.

        The standard error grows by sqrt(chi2 / freedom) where the misfit exceeds the known noise
        (Birge ratio), so that a bent curve is not trusted more than it deserves.
        """
        at = np.array([1.0, np.log(samples)])
        variance = float(at @ np.asarray(self.covariance) @ at)
        if self.freedom > 0:
            variance *= max(1.0, self.chi_square / self.freedom)
        return float(self.intercept + self.slope * at[1]), float(np.sqrt(variance))


def fit_log_linear(points: Sequence[Measurement]) -> Fit:
    """Weighted least squares of ln error on ln samples.

    Args:
        points: at least two measurements at different samples.

    Returns:
        The fit. A slope that would be positive (error growing with data) is held at 0 and said
        so in `rising`: more data is not extrapolated to make things worse.

    Raises:
        SearchError: with fewer than two different sample counts.
    """
    if len({point.samples for point in points}) < 2:
        raise SearchError(
            f"a curve through {len(points)} point(s) was asked for; at least two different "
            "sample counts are needed"
        )
    x = np.log([point.samples for point in points])
    y = np.array([point.log_error for point in points])
    weight = np.array([point.log_noise for point in points]) ** -2.0
    design = np.stack([np.ones_like(x), x], axis=1)
    covariance = np.linalg.inv(design.T @ (weight[:, None] * design))
    intercept, slope = covariance @ (design.T @ (weight * y))
    rising = bool(slope > 0)
    if rising:
        intercept, slope = np.average(y, weights=weight), 0.0
    residual = y - intercept - slope * x
    return Fit(
        intercept=float(intercept),
        slope=float(slope),
        covariance=_as_rows(covariance),
        chi_square=float(np.sum(weight * residual**2)),
        freedom=len(points) - (1 if rising else 2),
        rising=rising,
    )


def _as_rows(matrix: np.ndarray) -> tuple[tuple[float, float], tuple[float, float]]:
    (p, q), (r, s) = matrix.tolist()
    return ((p, q), (r, s))
