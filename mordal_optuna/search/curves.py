"""Learning curves: a log-linear fit with known noise, extrapolated to a full alignment.

The standard error of a score covers document sampling noise only. Training adds noise: with
another random seed or order of samples the same pair scores differently, and the scores of a
single run scatter around its curve. This run noise h is estimated from the misfit of the pool's
curves.

Symbols:
    n_i       samples at rung i
    e_i       error 1 - score at rung i, at least half a document
    s_i       standard error of e_i
    x_i, y_i  ln n_i, ln e_i
    sigma_i   standard error of y_i, s_i / e_i (delta method)
    h         run noise, the standard deviation of a run's y_i around its curve beyond sigma_i
    a, b      intercept and slope of y = a + b x
    C         covariance of (a, b), inverse of X' W X with W = diag(1 / (sigma_i^2 + h^2))
    chi2      sum of (y_i - a - b x_i)^2 / (sigma_i^2 + h^2)
    D         samples of a full alignment; f(1) is the fitted error there
    m, t      mean and spread of the slopes of a pool of candidates
    c         standard deviation of the change of a slope beyond the last point
    p         smallest number of points of a curve
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from mordal_optuna.errors import SearchError
from mordal_optuna.search.bounds import require

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from mordal_optuna.search.points import Point

# Standard error of ln error assumed for scores without a standard error (plain Optuna objectives):
# about that of 300 documents at an error of .5.
UNKNOWN_NOISE = 0.06
# Smallest error if the number of documents is unknown.
UNKNOWN_FLOOR = 1e-3
# Significance level of the chi-square test by which points are rejected as not log-linear.
STABLE_LEVEL = 0.05


# Details of a score that a trial stores under these names: always, and unless they are None.
_REQUIRED = "stderr", "documents", "train_seconds", "eval_seconds"
_OPTIONAL = (
    *("nll", "nll_stderr", "p_correct", "p_correct_stderr", "guessed", "cut", "empty", "alike"),
    *("train_spent", "eval_spent", "differing"),
)


@dataclass(frozen=True)
class Measurement:
    """A score at a rung.

    Attributes:
        samples: alignment samples trained on, at least 1.
        score: the task's main metric, 0 to 1, higher is better.
        stderr: standard error of the score; None if unknown.
        documents: number of documents scored; None if unknown.
        train_seconds: device-seconds of training from the start up to this rung.
        eval_seconds: device-seconds of the evaluation at this rung.
        nll: mean of -ln p of the reference answers, in nats; None if not measured.
        nll_stderr: standard error of `nll`; None if not measured.
        p_correct: mean of the reference answers' likelihood p, 0 to 1; None if not measured.
        p_correct_stderr: standard error of `p_correct`; None if not measured.
        guessed: share of answers that the task could not parse and replaced by random ones; None
            for tasks that never do so.
        train_spent: device-seconds of training that this study spent on the score, from the rung
            below, without reused checkpoints; None if unknown, then all of the training counts.
        eval_spent: device-seconds of evaluation that this study spent on the score; 0 if the score
            was reused; None if unknown, then all of the evaluation counts.
        answers: values of the documents, see `answers.Answers`; None if unknown.
        cut: share of answers that were cut off at the token limit; None if unknown.
        empty: share of answers without any text; None if unknown.
        alike: share of documents that got the most frequent answer; None if unknown.
        by_task: the measurement of each task if the score is a weighted mean over several tasks,
            see `tasks.weighted_mean`; empty if there is one task.
        differing: share of answers in which an engine and the live model differ; None without one.
        time: device-seconds that this study spent on the score by part, and what was computed in
            them, see `study/times.py`; empty if unknown.
    """

    samples: int
    score: float
    stderr: float | None = None
    documents: int | None = None
    train_seconds: float = 0.0
    eval_seconds: float = 0.0
    nll: float | None = None
    nll_stderr: float | None = None
    guessed: float | None = None
    train_spent: float | None = None
    eval_spent: float | None = None
    answers: str | None = field(default=None, repr=False)
    cut: float | None = None
    empty: float | None = None
    alike: float | None = None
    p_correct: float | None = None
    p_correct_stderr: float | None = None
    by_task: Mapping[str, Measurement] = field(default_factory=dict, hash=False)
    differing: float | None = None
    time: Mapping[str, float] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Check the bounds.

        Raises:
            SearchError: if the score is not between 0 and 1, or there are no samples.
        """
        require(self.samples >= 1, "samples", self.samples, "at least 1")
        if not 0.0 <= self.score <= 1.0:
            raise SearchError(
                f"score {self.score} at {self.samples} samples; scores must be between 0 and 1, "
                "higher being better"
            )

    def to_json(self) -> dict[str, Any]:
        """The details that a trial stores beside Optuna's intermediate value and the answers."""
        tasks = {name: {"score": m.score, **m.to_json()} for name, m in self.by_task.items()}
        optional = {name: getattr(self, name) for name in _OPTIONAL}
        optional |= {"tasks": tasks or None, "time": dict(self.time) or None}
        return {name: getattr(self, name) for name in _REQUIRED} | {
            name: value for name, value in optional.items() if value is not None
        }

    @staticmethod
    def from_json(
        details: Mapping[str, Any],
        *,
        samples: int,
        score: float,
        answers: str | None = None,
        task_answers: Mapping[str, str | None] | None = None,
    ) -> Measurement:
        """Inverse of `to_json`; the details are empty if an objective reported a score alone."""
        own, found = {k: v for k, v in details.items() if k != "tasks"}, task_answers or {}
        by_task = {
            name: Measurement(samples=samples, answers=found.get(name), **one)
            for name, one in details.get("tasks", {}).items()
        }
        return Measurement(samples=samples, score=score, answers=answers, by_task=by_task, **own)

    @property
    def log_error(self) -> float:
        """y_i, the natural logarithm of the error."""
        return math.log(self.error)

    @property
    def log_noise(self) -> float:
        """sigma_i, the standard error of `log_error` by the delta method."""
        return self.noise / self.error

    @property
    def noise(self) -> float:
        """Standard error of the score due to the sampling of documents.

        If all documents are right, or all wrong, the sample deviation is 0, which no finite sample
        justifies; so the noise is at least half a document.
        """
        if self.stderr is None:
            return UNKNOWN_NOISE * self.error
        least = 0.5 / self.documents if self.documents else 1e-6 * self.error
        return max(self.stderr, least)

    @property
    def error(self) -> float:
        """e_i, 1 - score, at least half a document."""
        return max(1.0 - self.score, 0.5 / self.documents if self.documents else UNKNOWN_FLOOR)


AnyPoint = TypeVar("AnyPoint", bound="Point")
Key = TypeVar("Key", bound="Hashable")


@dataclass(frozen=True)
class SlopePrior:
    """Normal prior of a candidate's slope, estimated from the pool.

    Attributes:
        mean: m.
        spread: t, above 0.
    """

    mean: float
    spread: float

    def __post_init__(self) -> None:
        """Check the bounds.

        Raises:
            SearchError: if the spread is not above 0.
        """
        require(self.spread > 0, "spread", self.spread, "above 0")


# Prior before any curve is fitted: between no change, and an error that halves with four times the
# data.
VAGUE_SLOPE = SlopePrior(-0.25, 0.25)
# c. Curves are straight only over part of their range: log-linear improvement starts late and ends
# once more data add nothing.
_SLOPE_DRIFT = 0.1
# Prior of h, a medium effect of other seeds on the pairs of the minigrid (benchmarks/README.md),
# and its weight in degrees of freedom.
RUN_NOISE, _RUN_NOISE_FREEDOM = 0.1, 5
# Number of last points of each curve that h is estimated from. They include points outside the
# stable window, because a window keeps points that happen to lie on a line, which underestimates
# the noise. Earlier points are left out, since a flat start is not noise.
_NOISE_POINTS = 3
# Prior of t, the spread of a pool's slopes around their mean.
_SPREAD_GUESS = 0.1


@dataclass(frozen=True)
class Fit:
    """A fitted curve.

    Attributes:
        intercept: a, ln error at one sample.
        slope: b; above 0 if the error seems to grow with data.
        middle: x and y of the points' weighted mean, which the fitted line passes through.
        covariance: C, 2 x 2.
        chi_square: chi2, misfit of the points relative to their noise.
        freedom: degrees of freedom, points minus parameters determined by the points.
        first: samples of the first point used.
        last: samples of the last point used.
        loss: mean squared residual in ln error.
        run_noise: h, at least 0.
        may_rise: whether a slope above 0 is extrapolated; if not, it is replaced by 0.
    """

    intercept: float
    slope: float
    middle: tuple[float, float]
    covariance: tuple[tuple[float, float], tuple[float, float]]
    chi_square: float
    freedom: int
    first: int
    last: int
    loss: float
    run_noise: float = 0.0
    may_rise: bool = False

    @property
    def rising(self) -> bool:
        """Whether the fitted error grows with data."""
        return self.slope > 0

    @property
    def goodness(self) -> float:
        """P-value of the misfit under the known noise; 1 without degrees of freedom."""
        if self.freedom < 1:
            return 1.0
        from scipy import special  # here, since `mordal status` needs no fit and starts faster

        return float(special.chdtrc(self.freedom, self.chi_square))

    def log_error(self, samples: int) -> tuple[float, float]:
        """Predicted ln error of a run at a number of samples, and its standard error.

        If the misfit exceeds the noise, the standard error is multiplied by sqrt(chi2 / degrees of
        freedom) (Birge ratio), so that a bent curve gets a wide interval. Two terms are added in
        squares: c ln(samples / n) beyond the last point n, because the slope may change there; and
        h, because the prediction is for a single run and not for the curve.

        Args:
            samples: alignment samples, at least 1.
        """
        x = math.log(samples)
        (c_aa, c_ab), (_, c_bb) = self.covariance
        variance = c_aa + 2 * c_ab * x + c_bb * x**2
        if self.freedom > 0:
            variance *= max(1.0, self.chi_square / self.freedom)
        drift = _SLOPE_DRIFT * max(0.0, x - math.log(self.last))
        s = math.sqrt(variance + drift**2 + self.run_noise**2)
        slope = self.slope if self.may_rise else min(self.slope, 0.0)
        mid_x, mid_y = self.middle
        return mid_y + slope * (x - mid_x), s


def fit_log_linear(
    points: Sequence[Point], prior: SlopePrior | None = None, *, run_noise: float = 0.0
) -> Fit:
    """Weighted least squares of ln error on ln samples, the slope shrunk toward a prior.

    Args:
        points: points at different numbers of samples; at least two, or one with a prior.
        prior: normal prior of the slope (the posterior mode of the Bayesian linear model, Gelman
            et al. 2013, section 14.8: one more observation b = m with noise t).
        run_noise: h, at least 0.

    Returns:
        The fit. A slope above 0 (error growing with data) is kept, because replacing it by 0 here
        would bias the pool's mean slope; see `Fit.log_error`.

    Raises:
        SearchError: if there are too few different sample counts, or h is negative.
    """
    require(run_noise >= 0, "run_noise", run_noise, "at least 0")
    needed = 1 if prior else 2
    if len({point.samples for point in points}) < needed:
        raise SearchError(
            f"a curve through {len(points)} point(s) was asked for; at least {needed} different "
            "sample counts are needed"
        )
    # Plain floats, because a search fits thousands of curves with a few points each. Centred for
    # numerical accuracy, because the values of ln samples are large relative to their differences.
    x = [math.log(point.samples) for point in points]
    y = [point.log_error for point in points]
    weight = [1 / (point.log_noise**2 + run_noise**2) for point in points]
    total = sum(weight)
    mid_x = sum(w * v for w, v in zip(weight, x, strict=True)) / total
    mid_y = sum(w * v for w, v in zip(weight, y, strict=True)) / total
    precision = sum(w * (v - mid_x) ** 2 for w, v in zip(weight, x, strict=True))
    target = sum(w * (v - mid_x) * u for w, v, u in zip(weight, x, y, strict=True))
    if prior:
        precision += prior.spread**-2
        target += prior.mean * prior.spread**-2
    slope = target / precision
    intercept = mid_y - slope * mid_x
    squares = [(u - intercept - slope * v) ** 2 for v, u in zip(x, y, strict=True)]
    parameters = min(len(points), 2)
    c_ab = -mid_x / precision
    return Fit(
        intercept=intercept,
        slope=slope,
        middle=(mid_x, mid_y),
        covariance=((1 / total + mid_x**2 / precision, c_ab), (c_ab, 1 / precision)),
        chi_square=sum(w * r for w, r in zip(weight, squares, strict=True)),
        freedom=len(points) - parameters,
        first=min(point.samples for point in points),
        last=max(point.samples for point in points),
        loss=sum(squares) / len(points),
        run_noise=run_noise,
    )


def stable_window(
    points: Sequence[AnyPoint], *, least: int, run_noise: float = 0.0
) -> tuple[AnyPoint, ...]:
    """The longest sequence of last points that is consistent with one log-linear curve.

    Log-linear improvement starts late: below some number of samples the error is near chance. The
    first point is dropped as long as the fit of the remaining points is rejected by its chi-square
    at the 5 % level and more than `least` points are left.

    Args:
        points: points by ascending samples.
        least: p, at least 2; if there are no more points than that, all are returned.
        run_noise: h, at least 0.

    Raises:
        SearchError: if an argument is out of its range.
    """
    require(least >= 2, "least", least, "at least 2")
    kept = tuple(points)
    while len(kept) > least:
        if fit_log_linear(kept, run_noise=run_noise).goodness >= STABLE_LEVEL:
            break
        kept = kept[1:]
    return kept


def pooled_run_noise(curves: Sequence[Sequence[Point]]) -> float:
    """The run noise h of a pool, from the misfit of its curves, by the method of moments.

    h^2 = (5 * .1^2 + E) / (5 + F), with F the degrees of freedom of all curves together and E the
    excess, at least 0, of their squared residuals over F times the mean square of sigma. So h is
    .1 in a pool without a curve of three points, and determined by the data in a pool of many.

    The last three points of each curve are used, including points outside its stable window.

    Args:
        curves: points of each curve, by ascending samples; curves of fewer than three points are
            ignored.
    """
    excess, freedom = 0.0, 0
    for points in (curve[-_NOISE_POINTS:] for curve in curves):
        if len(points) > 2:  # noqa: PLR2004 - a line passes through two
            fit = fit_log_linear(points, run_noise=RUN_NOISE)
            sampling = float(np.mean([point.log_noise**2 for point in points]))
            excess += fit.loss * len(points) - sampling * fit.freedom
            freedom += fit.freedom
    squares = _RUN_NOISE_FREEDOM * RUN_NOISE**2 + max(excess, 0.0)
    return float(np.sqrt(squares / (_RUN_NOISE_FREEDOM + freedom)))


def fit_pool(points: Mapping[Key, Sequence[Point]], *, least: int) -> dict[Key, Fit]:
    """Fit the curves of a pool: each over its stable window, with the pool's run noise and slope.

    Args:
        points: points of each candidate, by ascending samples, at least p of them.
        least: p, at least 2.

    Returns:
        The fit of each candidate.

    Raises:
        SearchError: if p is out of its range or a candidate has too few points.
    """
    run_noise = pooled_run_noise(list(points.values()))
    windows = {
        key: stable_window(curve, least=least, run_noise=run_noise)
        for key, curve in points.items()
    }
    alone = [fit_log_linear(window, run_noise=run_noise) for window in windows.values()]
    slope = pooled_slope(alone)
    return {
        key: fit_log_linear(window, slope, run_noise=run_noise) for key, window in windows.items()
    }


def pooled_slope(fits: Sequence[Fit]) -> SlopePrior:
    """The prior of a further curve's slope, from a pool's curves by the method of moments.

    Random effects (DerSimonian and Laird 1986): curves are weighted by 1 / (s^2 + t^2), with s the
    standard error of a slope and t^2 the mean excess of the slopes' squared deviations over s^2.
    The vague slope is one more observation of the mean, and a spread of .1 counts as two curves,
    so that a few curves that happen to agree do not pass for certainty. The spread that is
    returned includes the standard error of the mean.

    Args:
        fits: fitted curves of the pool; may be empty.
    """
    slopes = np.array([fit.slope for fit in fits])
    noise = np.array([fit.covariance[1][1] for fit in fits])
    vague = VAGUE_SLOPE.spread**-2
    mean, between = VAGUE_SLOPE.mean, _SPREAD_GUESS**2
    for _ in range(20):  # fixed-point iteration; far fewer rounds are needed
        weight = 1 / (noise + between)
        mean = float((vague * VAGUE_SLOPE.mean + weight @ slopes) / (vague + weight.sum()))
        excess = max(float(((slopes - mean) ** 2 - noise).sum()), 0.0)
        between = (2 * _SPREAD_GUESS**2 + excess) / (2 + len(slopes))
    mean_variance = 1 / (vague + (1 / (noise + between)).sum())
    return SlopePrior(mean, float(np.sqrt(between + mean_variance)))
