"""Joint estimate of every pair at r = 1 from all scores of a study: a Gaussian process.

The score of a pair is evidence about its encoder and its LLM, and the curves of all pairs have a
common trend. So a pair with few or no scores is estimated from the pairs that share a part with
it, and an exceptional score is shrunk toward the estimate from its parts. Inference is exact. The
scale of the pool's spread and the run noise are maximum a posteriori values over a small grid. All
other parameters are fixed and equal for all tasks; they were chosen on two pools of tiny models
(benchmarks/README.md).

Symbols:
    i, j       encoder, LLM
    D          samples of a full alignment
    x          log2(samples / D), at most 0
    y_ij(x)    ln error of a pair, m(x) + u_i(x) + v_j(x) + w_ij(x)
    m          common curve: a vague level, a vague slope, and a random walk
    u, v, w    effects of the encoder, the LLM, and their interaction: normal with mean 0 and
               covariance s^2 exp(g ln 2 (x + x')) exp(-|x - x'| / d)
    s          standard deviation of an effect at x = 0
    g          growth rate of the effects per doubling of the samples
    d          correlation length of an effect, in doublings
    c          scale of the pool's spread: s_u, s_v and s_w are c times their fixed values
    k          share of the documents' variance in the noise; below 1, because compared pairs
               answer the same documents
    h          run noise: standard deviation of a run's ln error over random seeds
    K, G       prior covariance of y, and of the observed scores with their noise
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import cho_factor, cho_solve, cholesky

from mordal_optuna.search.bounds import require
from mordal_optuna.search.curves import RUN_NOISE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.curves import Measurement

    Floats = NDArray[np.float64]

# Fixed values of s and d for encoder, LLM and interaction; of g; of k.
_SPREADS = (0.15, 0.20, 0.14)
_LENGTHS = (6.7, 7.4, 3.7)
_GROWTH = 0.4
_SHARED = 0.58
# Prior of m: mean and spread of the level; of the slope per doubling, as `curves.VAGUE_SLOPE`; and
# standard deviation of a step of the random walk per doubling.
_LEVEL, _LEVEL_SPREAD = math.log(0.5), 2.0
_SLOPE, _SLOPE_SPREAD = -0.25 * math.log(2), 0.25 * math.log(2)
_WALK = 0.1
# Grids of c and h, and the medians and log-spreads of their log-normal priors.
_SCALES, _SCALE_PRIOR = (0.5, 0.7, 1.0, 1.4, 2.0, 2.8), (1.0, 0.5)
_NOISES, _NOISE_PRIOR = (0.03, 0.06, 0.12, 0.2), (0.05, 0.5)
# Draws for the probabilities of being best, and number of (the most promising) pairs drawn.
_DRAWS, _DRAWN = 4096, 512
# Number of pairs whose moments are computed at once.
_CHUNK = 4096


@dataclass(frozen=True)
class Posterior:
    """Posterior of ln error at r = 1.

    Attributes:
        candidates: the pairs.
        mean: posterior mean of ln error, one entry per pair.
        deviation: posterior standard deviation of ln error, one entry per pair.
        run_noise: h.
        joint: returns mean and covariance of some pairs, given their indices.
    """

    candidates: tuple[Candidate, ...]
    mean: Floats
    deviation: Floats
    run_noise: float
    joint: Callable[[NDArray[np.int64]], tuple[Floats, Floats]]

    @cached_property
    def best(self) -> Floats:
        """Probability of having the lowest error, one entry per pair; the sum is 1.

        In large pools only the 512 most promising pairs get a probability above 0.
        """
        drawn = np.argsort(self.mean - 3 * self.deviation, kind="stable")[:_DRAWN]
        best = np.zeros(len(self.mean))
        best[drawn] = probability_of_best(*self.joint(drawn))
        return best


@dataclass(frozen=True)
class _Places:
    """Inputs of the process: pair and samples of scores or estimates, one row each.

    Attributes:
        encoder: i, index of the encoder.
        llm: j, index of the LLM.
        x: log2(samples / D).
    """

    encoder: NDArray[np.int64]
    llm: NDArray[np.int64]
    x: Floats

    def part(self, rows: slice | NDArray[np.int64]) -> _Places:
        return _Places(self.encoder[rows], self.llm[rows], self.x[rows])


def joint_posterior(
    scores: Iterable[tuple[Candidate, Measurement]],
    candidates: Sequence[Candidate],
    full_samples: int,
) -> Posterior:
    """The posterior of the whole pool given all scores of a study.

    Args:
        scores: measurements of any pairs of the pool at any rungs; may be empty.
        candidates: all pairs of the pool.
        full_samples: D, at least 1.

    Raises:
        SearchError: if D is below 1.
    """
    require(full_samples >= 1, "full_samples", full_samples, "at least 1")
    seen = tuple(scores)
    indices = _Indices(candidates)
    observed = indices.places(
        [candidate for candidate, _ in seen],
        [math.log2(m.samples / full_samples) for _, m in seen],
    )
    y = np.array([m.log_error for _, m in seen]) - _common_mean(observed.x)
    documents = _SHARED * np.array([m.log_noise for _, m in seen]) ** 2
    model = _Fitted(observed, y, documents)
    whole = indices.places(candidates, [0.0] * len(candidates))
    mean, deviation = model.moments(whole)
    return Posterior(
        tuple(candidates),
        mean,
        deviation,
        model.run_noise,
        lambda rows: model.joint(whole.part(rows)),
    )


def independent_posterior(
    candidates: Sequence[Candidate], mean: Sequence[float], deviation: Sequence[float]
) -> Posterior:
    """The posterior of pairs that were estimated one by one.

    Args:
        candidates: the pairs.
        mean: mean of ln error at r = 1, one entry per pair.
        deviation: standard deviation of ln error at r = 1, one entry per pair.
    """
    y, s = np.array(mean), np.array(deviation)
    return Posterior(
        tuple(candidates), y, s, RUN_NOISE, lambda rows: (y[rows], np.diag(s[rows] ** 2))
    )


def probability_of_best(mean: Floats, covariance: Floats, *, seed: int = 0) -> Floats:
    """Probability that each of n jointly normal errors is the lowest, by Monte Carlo.

    Args:
        mean: means, n entries.
        covariance: covariance, n x n.
        seed: random seed of the draws; equal seeds give equal probabilities.
    """
    jitter = 1e-9 * max(1.0, float(covariance.diagonal().max()))
    factor = cholesky(covariance + jitter * np.eye(len(mean)), lower=True)
    noise = np.random.default_rng(seed).standard_normal((_DRAWS, len(mean)))
    lowest = (mean + noise @ factor.T).argmin(axis=1)
    return np.asarray(np.bincount(lowest, minlength=len(mean)) / _DRAWS)


class _Indices:
    """Indices of encoders and LLMs."""

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self._encoders = {n: i for i, n in enumerate(dict.fromkeys(c[0] for c in candidates))}
        self._llms = {n: j for j, n in enumerate(dict.fromkeys(c[1] for c in candidates))}

    def places(self, candidates: Sequence[Candidate], x: Sequence[float]) -> _Places:
        return _Places(
            np.array([self._encoders[c.vision_encoder] for c in candidates], dtype=np.int64),
            np.array([self._llms[c.llm] for c in candidates], dtype=np.int64),
            np.array(x, dtype=float),
        )


class _Fitted:
    """The process with both hyperparameters chosen, conditioned on scores."""

    def __init__(self, observed: _Places, y: Floats, documents: Floats) -> None:
        self._observed = observed
        self._y = y
        self._common = _common(observed, observed)
        self._parts = _parts(observed, observed)
        self._documents = documents
        self._scale, self.run_noise = self._most_probable()
        self._factor = cho_factor(self._noisy(self._scale, self.run_noise), lower=True)
        self._weights = cho_solve(self._factor, y)

    def moments(self, places: _Places) -> tuple[Floats, Floats]:
        """Mean and standard deviation at each place, in chunks that fit into memory."""
        means, variances = [], []
        for start in range(0, len(places.x), _CHUNK):
            part = places.part(slice(start, start + _CHUNK))
            cross = self._prior(part, self._observed)
            solved = cho_solve(self._factor, cross.T)
            means.append(_common_mean(part.x) + cross @ self._weights)
            variances.append(self._variance(part) - np.einsum("ij,ji->i", cross, solved))
        return np.concatenate(means), np.sqrt(np.maximum(np.concatenate(variances), 1e-12))

    def joint(self, places: _Places) -> tuple[Floats, Floats]:
        """Mean and covariance at a few places."""
        cross = self._prior(places, self._observed)
        mean = _common_mean(places.x) + cross @ self._weights
        covariance = self._prior(places, places) - cross @ cho_solve(self._factor, cross.T)
        return mean, (covariance + covariance.T) / 2

    def _most_probable(self) -> tuple[float, float]:
        """Maximum a posteriori values of c and h, by coordinate ascent on their grids."""
        scale, noise = _SCALE_PRIOR[0], min(_NOISES, key=lambda h: abs(h - _NOISE_PRIOR[0]))
        densities: dict[tuple[float, float], float] = {}

        def density(c: float, h: float) -> float:
            if (c, h) not in densities:
                densities[c, h] = self._log_density(c, h)
            return densities[c, h]

        while True:
            before = (scale, noise)
            scale = max(_SCALES, key=lambda c: density(c, noise))
            noise = max(_NOISES, key=lambda h: density(scale, h))
            if (scale, noise) == before:
                return before

    def _log_density(self, scale: float, noise: float) -> float:
        """Log marginal likelihood plus log priors of c and h, up to a constant."""
        prior = 0.0
        for value, (median, spread) in ((scale, _SCALE_PRIOR), (noise, _NOISE_PRIOR)):
            prior -= (math.log(value / median) / spread) ** 2 / 2
        if not len(self._y):
            return prior
        factor = cho_factor(self._noisy(scale, noise), lower=True)
        half_log = float(np.log(factor[0].diagonal()).sum())
        return prior - float(self._y @ cho_solve(factor, self._y)) / 2 - half_log

    def _noisy(self, scale: float, noise: float) -> Floats:
        """G."""
        shape = self._common + scale**2 * self._parts
        return np.asarray(shape + np.diag(self._documents + noise**2))

    def _prior(self, rows: _Places, columns: _Places) -> Floats:
        return _common(rows, columns) + self._scale**2 * _parts(rows, columns)

    def _variance(self, places: _Places) -> Floats:
        """Diagonal of K."""
        effects = sum(s**2 for s in _SPREADS) * np.exp(2 * _GROWTH * math.log(2) * places.x)
        walk = _WALK**2 * (places.x - _WALK_START)
        slope = (_SLOPE_SPREAD * places.x) ** 2
        return np.asarray(_LEVEL_SPREAD**2 + slope + walk + self._scale**2 * effects)


# Value of x where the random walk begins, below any rung.
_WALK_START = -30.0


def _common_mean(x: Floats) -> Floats:
    """Prior mean of m."""
    return _LEVEL + _SLOPE * x


def _common(rows: _Places, columns: _Places) -> Floats:
    """Prior covariance of m.

    The covariance of the random walk at two places is its variance at the lower x.
    """
    x, other = rows.x[:, None], columns.x[None]
    walk = _WALK**2 * (np.minimum(x, other) - _WALK_START)
    return np.asarray(_LEVEL_SPREAD**2 + _SLOPE_SPREAD**2 * x * other + walk)


def _parts(rows: _Places, columns: _Places) -> Floats:
    """Prior covariance of u + v + w for c = 1."""
    x, other = rows.x[:, None], columns.x[None]
    encoder = rows.encoder[:, None] == columns.encoder[None]
    llm = rows.llm[:, None] == columns.llm[None]
    covariance = np.zeros(encoder.shape)
    shared = (encoder, llm, encoder & llm)
    for spread, length, same in zip(_SPREADS, _LENGTHS, shared, strict=True):
        covariance += spread**2 * same * np.exp(-np.abs(x - other) / length)
    return np.asarray(covariance * np.exp(_GROWTH * math.log(2) * (x + other)))
