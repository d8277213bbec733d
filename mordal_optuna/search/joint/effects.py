"""The prior of the joint model: covariance of scores, and its hyperparameters.

Symbols:
    i, j       encoder, LLM
    D          samples of a full alignment
    x          log2(samples / D), at most 0
    q          what was measured: 0 for the error, 1 for the reference answers' likelihood
    y_ijq(x)   m_q(x) + b_q (u_i(x) + v_j(x) + w_ij(x)), ln error of a pair (q = 0) or
               ln(1 - p), p being the mean likelihood of the reference answers (q = 1)
    m_q        common curve: a vague level, a slope, and a random walk
    u, v, w    effects of the encoder, the LLM, and their interaction: normal with mean 0 and
               covariance s^2 exp(g ln 2 (x + x')) exp(-|x - x'| / d) times A, B, and A * B
    A, B       correlations of the encoders' and of the LLMs' effects, see `similarity`
    s          standard deviation of an effect at x = 0
    d          correlation length of an effect, in doublings
    g          growth rate of the effects per doubling of the samples
    b_q        spread of the pairs in ln(1 - p) relative to that in ln error; b_0 = 1
    k          share of the documents' variance in the noise; below 1, because compared pairs
               answer the same documents
    r          standard deviation of a step of the random walk per doubling
    h_q        run noise: standard deviation of a run's y over random seeds; h_1 also has what
               p does not say about the error
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Indices = NDArray[np.int64]

LN2 = math.log(2)
# Prior of m: mean and spread of the level; of the slope per doubling, which holds the mean curves
# of the minigrid's tasks (0 to -.16) and of synthetic grids (-.12); and the place where the random
# walk begins, below any rung. A start at one rung tells nothing about the slope, so that a vaguer
# prior would make all intervals of a short search too wide, and a steeper one all of its estimates
# too good.
_LEVEL, _LEVEL_SPREAD = math.log(0.5), 2.0
_SLOPE, _SLOPE_SPREAD = -0.1, 0.1
_WALK_START = -30.0

ERROR, LIKELIHOOD = 0, 1
# Entries of a covariance that are computed at once, so that its terms need little memory.
_AT_ONCE = 1 << 18


@dataclass(frozen=True)
class Hyperparameters:
    """Hyperparameters of the process.

    Attributes:
        spreads: s of encoder, LLM and interaction, above 0.
        lengths: d of encoder, LLM and interaction, above 0.
        growth: g, above 0.
        shared: k, above 0.
        noise: h_0, above 0.
        scale: b_1, above 0.
        likelihood_noise: h_1, above 0.
        walk: r, above 0.
    """

    spreads: tuple[float, float, float]
    lengths: tuple[float, float, float]
    growth: float
    shared: float
    noise: float
    scale: float
    likelihood_noise: float
    walk: float

    @staticmethod
    def of(logs: Floats) -> Hyperparameters:
        """From their natural logarithms, 12 entries in the order of the attributes."""
        v = np.exp(logs).tolist()
        return Hyperparameters((v[0], v[1], v[2]), (v[3], v[4], v[5]), *v[6:])

    @property
    def gains(self) -> Floats:
        """b, by q."""
        return np.array([1.0, self.scale])

    @property
    def noises(self) -> Floats:
        """h, by q."""
        return np.array([self.noise, self.likelihood_noise])


@dataclass(frozen=True)
class Hyperprior:
    """Log-normal priors of the hyperparameters, in the order of `Hyperparameters`.

    Attributes:
        medians: medians, 12 entries above 0.
        spreads: standard deviations of the logarithms, 12 entries above 0.
    """

    medians: tuple[float, ...]
    spreads: tuple[float, ...]

    @property
    def logs(self) -> Floats:
        """Logarithms of the medians."""
        return np.log(np.array(self.medians))


# Near the means of the values fitted to 16 synthetic grids and to the seven tasks of the minigrid,
# with spreads that cover both; docs/how-it-ranks.md says how they were found.
PRIOR = Hyperprior(
    (0.12, 0.17, 0.10, 10.0, 12.0, 6.0, 0.35, 0.65, 0.02, 0.8, 0.02, 0.03),
    (0.8, 0.6, 0.5, 0.4, 0.4, 0.4, 0.8, 0.4, 0.9, 0.4, 1.0, 0.6),
)


@dataclass(frozen=True)
class Places:
    """Inputs of the process: pair, samples and kind of scores or estimates, one row each.

    Attributes:
        encoder: i, index of the encoder.
        llm: j, index of the LLM.
        x: log2(samples / D).
        kind: q.
    """

    encoder: Indices
    llm: Indices
    x: Floats
    kind: Indices

    def __len__(self) -> int:
        return len(self.x)

    def part(self, rows: slice | Indices) -> Places:
        """Some of the rows."""
        return Places(self.encoder[rows], self.llm[rows], self.x[rows], self.kind[rows])

    @staticmethod
    def joined(parts: Sequence[Places]) -> Places:
        """The rows of all parts, one part after the other."""
        return Places(
            np.concatenate([p.encoder for p in parts]),
            np.concatenate([p.llm for p in parts]),
            np.concatenate([p.x for p in parts]),
            np.concatenate([p.kind for p in parts]),
        )


@dataclass(frozen=True)
class Correlations:
    """Prior correlations of the effects of models, 1 on both diagonals.

    Attributes:
        encoders: A, encoders x encoders, positive definite.
        llms: B, LLMs x LLMs, positive definite.
        are_independent: whether both are known to be the identity.
    """

    encoders: Floats
    llms: Floats
    are_independent: bool = False

    @staticmethod
    def none(encoders: int, llms: int) -> Correlations:
        """Independent effects."""
        return Correlations(np.eye(encoders), np.eye(llms), are_independent=True)

    def between(self, rows: Places, columns: Places) -> tuple[Floats, Floats, Floats]:
        """A, B and A * B for all rows and columns."""
        a = self.encoders[np.ix_(rows.encoder, columns.encoder)]
        b = self.llms[np.ix_(rows.llm, columns.llm)]
        return a, b, a * b


def common_mean(places: Places) -> Floats:
    """Prior mean of m at each place."""
    return _LEVEL + _SLOPE * places.x


def common_covariances(
    values: Hyperparameters, rows: Places, columns: Places
) -> tuple[Floats, Floats]:
    """Prior covariances of m, rows x columns: of its line, and of its random walk.

    The curves of different kinds are independent. The covariance of the random walk at two places
    is its variance at the lower x.
    """
    x, other = rows.x[:, None], columns.x[None]
    same = rows.kind[:, None] == columns.kind[None]
    line = same * (_LEVEL_SPREAD**2 + _SLOPE_SPREAD**2 * x * other)
    walk = same * values.walk**2 * (np.minimum(x, other) - _WALK_START)
    return line, walk


def effect_covariances(
    values: Hyperparameters, correlations: Correlations, rows: Places, columns: Places
) -> tuple[Floats, Floats, Floats]:
    """Prior covariances of b u, b v and b w, each rows x columns."""
    apart = np.abs(rows.x[:, None] - columns.x[None])
    growth = np.exp(values.growth * LN2 * (rows.x[:, None] + columns.x[None]))
    growth *= values.gains[rows.kind][:, None] * values.gains[columns.kind][None]
    u, v, w = (
        s**2 * shape * np.exp(-apart / d) * growth
        for s, d, shape in zip(
            values.spreads, values.lengths, correlations.between(rows, columns), strict=True
        )
    )
    return u, v, w


def covariance(
    values: Hyperparameters, correlations: Correlations, rows: Places, columns: Places
) -> Floats:
    """Prior covariance of y, rows x columns."""
    result = np.empty((len(rows), len(columns)))
    step = max(1, _AT_ONCE // max(1, len(columns)))
    for start in range(0, len(rows), step):
        chosen = slice(start, start + step)
        part = rows.part(chosen)
        result[chosen] = sum(common_covariances(values, part, columns))
        for effect in effect_covariances(values, correlations, part, columns):
            result[chosen] += effect
    return result


def variance(values: Hyperparameters, places: Places) -> Floats:
    """Prior variance of y at each place."""
    effects = sum(s**2 for s in values.spreads) * np.exp(2 * values.growth * LN2 * places.x)
    walk = values.walk**2 * (places.x - _WALK_START)
    slope = (_SLOPE_SPREAD * places.x) ** 2
    gains = values.gains[places.kind] ** 2
    return np.asarray(_LEVEL_SPREAD**2 + slope + walk + gains * effects)
