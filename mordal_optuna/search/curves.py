"""Learning curves: a log-linear fit with known noise, extrapolated to the full alignment set.

A score's standard error knows of its documents alone. Training moves it as well: with another seed
or order of samples the same pair scores otherwise, and a single run's scores go up and down around
its own curve. That run noise h is learned from the misfit of the pool's curves.

Symbols:
    n_i       samples at rung i
    e_i       error 1 - score at rung i, floored at half a document
    s_i       standard error of e_i
    x_i, y_i  ln n_i, ln e_i
    sigma_i   standard error of y_i, s_i / e_i (delta method)
    h         run noise: how far a run's y_i lie from its curve beyond sigma_i
    a, b      intercept and slope of y = a + b x
    C         covariance of (a, b), inverse of X' W X with W = diag(1 / (sigma_i^2 + h^2))
    chi2      sum of (y_i - a - b x_i)^2 / (sigma_i^2 + h^2)
    D         samples of a full alignment; f(1) is the fitted error there
    m, t      mean and spread of the slopes of a pool of candidates
    c         how much a slope may change beyond the last point
    delta     the paper's largest mean squared residual of an accepted fit
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from scipy import special

from mordal_optuna.errors import SearchError

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

# Noise assumed of ln error where a score came without a standard error (plain Optuna objectives):
# about what 300 documents give at an error of .5.
UNKNOWN_NOISE = 0.06
# Smallest error where the number of documents is unknown.
UNKNOWN_FLOOR = 1e-3
# A window is taken as log-linear while its misfit is no rarer than this under the known noise.
STABLE_LEVEL = 0.05


# Details of a score that a trial stores under these names: always, and unless they are None.
_REQUIRED = "stderr", "documents", "train_seconds", "eval_seconds"
_OPTIONAL = *("nll", "nll_stderr", "guessed", "cut", "empty", "alike"), "train_spent", "eval_spent"


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
        nll: mean of -ln p of the reference answers, in nats; None where it was not measured.
        nll_stderr: its standard error.
        guessed: share of answers that the task could not read and drew at random; None where it
            never does.
        train_spent: device-seconds of training that this score cost where it was measured: since
            the rung below, less what was found trained; None where nobody tells, all of it.
        eval_spent: device-seconds of evaluation that it cost; 0 where it was found scored; None
            where nobody tells, all of it.
        answers: values of its documents, see `answers.Answers`; None where they are not known.
        cut: share of answers that ended at the token limit and not by themselves; None where it
            is not known.
        empty: share of answers without any text; None where it is not known.
        alike: share of documents that got the most frequent answer; None where it is not known.
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

    def to_json(self) -> dict[str, Any]:
        """The details that a trial stores beside Optuna's intermediate value and the answers."""
        optional = {name: getattr(self, name) for name in _OPTIONAL}
        return {name: getattr(self, name) for name in _REQUIRED} | {
            name: value for name, value in optional.items() if value is not None
        }

    @staticmethod
    def from_json(
        details: Mapping[str, Any], *, samples: int, score: float, answers: str | None = None
    ) -> Measurement:
        """Inverse of `to_json`; the details are empty if an objective reported a score alone."""
        return Measurement(samples=samples, score=score, answers=answers, **details)

    @property
    def log_error(self) -> float:
        """Natural logarithm of the error, an error of 0 counting as half a document."""
        return math.log(self.error)

    @property
    def log_noise(self) -> float:
        """Standard error of `log_error`, by the delta method."""
        return self.noise / self.error

    @property
    def noise(self) -> float:
        """Standard error of the score, by its documents.

        With all documents right (or wrong) the sample deviation is 0, which no finite sample
        supports: the noise is never below that of half a document.
        """
        if self.stderr is None:
            return UNKNOWN_NOISE * self.error
        least = 0.5 / self.documents if self.documents else 1e-6 * self.error
        return max(self.stderr, least)

    @property
    def error(self) -> float:
        """1 - score, at least half a document."""
        return max(1.0 - self.score, 0.5 / self.documents if self.documents else UNKNOWN_FLOOR)


class Point(Protocol):
    """What a curve is fitted to: a `Measurement`, or another quantity that falls as errors do."""

    @property
    def samples(self) -> int:
        """n_i, at least 1."""
        ...

    @property
    def log_error(self) -> float:
        """y_i."""
        ...

    @property
    def log_noise(self) -> float:
        """sigma_i, above 0."""
        ...


AnyPoint = TypeVar("AnyPoint", bound=Point)
Key = TypeVar("Key", bound="Hashable")


@dataclass(frozen=True)
class SlopePrior:
    """What a pool says of a candidate's slope before its own points are looked at.

    Attributes:
        mean: m.
        spread: t, above 0.
    """

    mean: float
    spread: float


# Before any curve is known: between flat, and an error that halves with four times the data.
VAGUE_SLOPE = SlopePrior(-0.25, 0.25)
# c. Curves are straight only in part: the regime starts late, and ends where the data say no more.
_SLOPE_DRIFT = 0.1
# h before any misfit is known, in the middle of what other seeds did to the pairs of the minigrid
# (benchmarks/README.md); it counts as so many degrees of freedom.
RUN_NOISE, _RUN_NOISE_FREEDOM = 0.1, 5
# Last points of each curve that h is learned from. Points that a window would leave out are among
# them: a window keeps what happens to lie on a line, so what is left in it shows too little noise.
# Earlier points are not, since a flat start is not noise.
_NOISE_POINTS = 3
# Spread of the slopes of one pool around their mean before two curves are known.
_SPREAD_GUESS = 0.1


@dataclass(frozen=True)
class Fit:
    """A fitted curve.

    Attributes:
        intercept: a, ln error at one sample.
        slope: b, as points and prior ask for it; above 0 where the error seems to grow.
        middle: x and y of the points' weighted mean, which every fitted line passes through.
        covariance: C, 2 x 2.
        chi_square: misfit of the points against their noise.
        freedom: points minus parameters that the points themselves determine.
        first: samples of the first point used.
        last: samples of the last point used.
        loss: mean squared residual in ln error.
        run_noise: h.
        may_rise: a growing error is extrapolated as it is; else it is held flat.
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
        """Whether points and prior ask for an error that grows with data."""
        return self.slope > 0

    @property
    def goodness(self) -> float:
        """Probability of a misfit at least this large if the curve is right; 1 if unchecked."""
        if self.freedom < 1:
            return 1.0
        return float(special.chdtrc(self.freedom, self.chi_square))

    def log_error(self, samples: int) -> tuple[float, float]:
        """Predicted ln error of a run at `samples`, and its standard error.

        The standard error grows by sqrt(chi2 / freedom) where the misfit exceeds the noise (Birge
        ratio), so that a bent curve is not trusted more than it deserves. Beyond the last point n
        the slope itself may change by c: c ln(samples / n) is added in squares, and so is h, since
        what is predicted is one run's error and not the curve.
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
        points: measurements at different samples; at least two, or one with a prior.
        prior: normal prior of the slope (the posterior mode of the Bayesian linear model, Gelman
            et al. 2013, section 14.8: one more observation b = m with noise t).
        run_noise: h, at least 0.

    Returns:
        The fit. A slope above 0 (error growing with data) is kept as it is, since a pool's mean
        slope would be biased by slopes that were cut off; see `Fit.log_error`.

    Raises:
        SearchError: with fewer different sample counts than that.
    """
    needed = 1 if prior else 2
    if len({point.samples for point in points}) < needed:
        raise SearchError(
            f"a curve through {len(points)} point(s) was asked for; at least {needed} different "
            "sample counts are needed"
        )
    # Plain floats, since a search fits thousands of curves of a few points each; centred, since ln
    # samples differ by less than they are large.
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
    """The longest run of the last points that agrees with one log-linear curve.

    The regime starts late: below some number of samples the error sits near chance. Points are
    left out from the front while the fit of the rest is rejected at the 5 % level by its
    chi-square against the noise, never going below `least` points.

    Args:
        points: by ascending samples.
        least: p, at least 2; fewer points are returned as they are.
        run_noise: h, at least 0.
    """
    kept = tuple(points)
    while len(kept) > least:
        if fit_log_linear(kept, run_noise=run_noise).goodness >= STABLE_LEVEL:
            break
        kept = kept[1:]
    return kept


def pooled_run_noise(curves: Sequence[Sequence[Point]]) -> float:
    """The run noise of a pool, from the misfit of its curves, by the method of moments.

    h^2 = (5 * .1^2 + E) / (5 + F): F the degrees of freedom of all curves together, E the excess
    of their squared residuals over F times the squares of sigma, at least 0. So a pool without a
    curve of three points takes .1, and one with many what they show.

    The last three points of each curve count, before any is left out as a flat start.

    Args:
        curves: points of each, by ascending samples; those of fewer than three say nothing.
    """
    excess, freedom = 0.0, 0
    for points in (own[-_NOISE_POINTS:] for own in curves):
        if len(points) > 2:  # noqa: PLR2004 - a line passes through two
            fit = fit_log_linear(points, run_noise=RUN_NOISE)
            known = float(np.mean([point.log_noise**2 for point in points]))
            excess += fit.loss * len(points) - known * fit.freedom
            freedom += fit.freedom
    squares = _RUN_NOISE_FREEDOM * RUN_NOISE**2 + max(excess, 0.0)
    return float(np.sqrt(squares / (_RUN_NOISE_FREEDOM + freedom)))


def fit_pool(points: Mapping[Key, Sequence[Point]], *, least: int) -> dict[Key, Fit]:
    """The curves of a pool: each over its stable window, with the pool's run noise and slope.

    Args:
        points: of each candidate, by ascending samples, at least p of them.
        least: p.
    """
    run_noise = pooled_run_noise(list(points.values()))
    windows = {
        key: stable_window(own, least=least, run_noise=run_noise) for key, own in points.items()
    }
    alone = [fit_log_linear(window, run_noise=run_noise) for window in windows.values()]
    slope = pooled_slope(alone)
    return {
        key: fit_log_linear(window, slope, run_noise=run_noise) for key, window in windows.items()
    }


def pooled_slope(fits: Sequence[Fit]) -> SlopePrior:
    """What a pool's curves say of the slope of another one, by the method of moments.

    Random effects (DerSimonian and Laird 1986): curves are weighted by 1 / (s^2 + t^2), s the
    standard error of a slope, t^2 what the slopes' squared deviations exceed s^2 by on average.
    The vague slope is one more observation of the mean, and a spread of .1 counts as two curves,
    so that a few that happen to agree do not pass for certainty. The spread returned includes
    the doubt of the mean.
    """
    slopes = np.array([fit.slope for fit in fits])
    noise = np.array([fit.covariance[1][1] for fit in fits])
    vague = VAGUE_SLOPE.spread**-2
    mean, between = VAGUE_SLOPE.mean, _SPREAD_GUESS**2
    for _ in range(20):  # a fixed point; far fewer are needed
        weight = 1 / (noise + between)
        mean = float((vague * VAGUE_SLOPE.mean + weight @ slopes) / (vague + weight.sum()))
        excess = max(float(((slopes - mean) ** 2 - noise).sum()), 0.0)
        between = (2 * _SPREAD_GUESS**2 + excess) / (2 + len(slopes))
    doubt = 1 / (vague + (1 / (noise + between)).sum())
    return SlopePrior(mean, float(np.sqrt(between + doubt)))


def fit_as_in_paper(
    points: Sequence[Measurement], *, points_needed: int, delta: float
) -> Fit | None:
    """The paper's rule: a plain line through the last p points, accepted if its loss < delta.

    Args:
        points: by ascending samples.
        points_needed: p, at least 2.
        delta: largest mean squared residual of ln error.

    Returns:
        The fit, its covariance that of least squares under the known noise; None if there are
        fewer than p points or the loss is too large.
    """
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
