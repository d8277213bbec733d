"""What all scores together say of every pair at r = 1, as a joint normal distribution.

A pair's score tells of its encoder and of its LLM as well, and all curves fall alike. So pairs
that were hardly trained are estimated from those that share a part with them, and a lucky score is
drawn back toward what its parts would have it be. Inference is exact; the spread of the pool and
the run noise are chosen by maximum a posteriori over a small grid, all else are fixed priors, the
same for every task: they were looked at on two pools of tiny models (benchmarks/README.md).

Symbols:
    i, j       encoder, LLM
    D          samples of a full alignment
    x          log2(samples / D), at most 0
    y_ij(x)    ln error of a pair, m(x) + u_i(x) + v_j(x) + w_ij(x)
    m          common curve: a vague level, a vague slope, and a random walk
    u, v, w    what an encoder, an LLM, and just this pair add: normal with mean 0 and covariance
               s^2 exp(g ln 2 (x + x')) exp(-|x - x'| / d)
    s          spread at x = 0
    g          how much pairs spread apart, per doubling of the samples
    d          doublings over which what a part adds persists
    c          scale of the pool's spread: s_u, s_v and s_w are c times their priors
    k          share of the documents' variance that counts: compared pairs answer the same ones
    h          run noise: how far a run's ln error lies from its pair's mean over random seeds
    K, G       prior covariance of y, and of the observed scores with their noise
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import cho_factor, cho_solve, cholesky

from mordal_optuna.search.curves import RUN_NOISE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.curves import Measurement

    Floats = NDArray[np.float64]

# Prior spreads (s) and persistences (d) of encoder, LLM and interaction; g; k.
_SPREADS = (0.15, 0.20, 0.14)
_PERSISTENCES = (6.7, 7.4, 3.7)
_GROWTH = 0.4
_SHARED = 0.58
# m: mean and spread of its level; of its slope per doubling, as in `curves.VAGUE_SLOPE`; and of a
# step of its random walk per doubling.
_LEVEL, _LEVEL_SPREAD = math.log(0.5), 2.0
_SLOPE, _SLOPE_SPREAD = -0.25 * math.log(2), 0.25 * math.log(2)
_WALK = 0.1
# Values of c and h that are tried, and the medians and log-spreads of their log-normal priors.
_SCALES, _SCALE_PRIOR = (0.5, 0.7, 1.0, 1.4, 2.0, 2.8), (1.0, 0.5)
_NOISES, _NOISE_PRIOR = (0.03, 0.06, 0.12, 0.2), (0.05, 0.5)
# Draws behind a probability of being best, and pairs that are drawn: the most promising.
_DRAWS, _DRAWN = 4096, 512
# Pairs whose moments are computed at once.
_CHUNK = 4096


@dataclass(frozen=True)
class Posterior:
    """What is believed of pairs at r = 1, on the scale of ln error.

    Attributes:
        candidates: the pairs.
        mean: one a pair.
        deviation: standard deviation, one a pair.
        run_noise: h.
        joint: gives mean and covariance of some of the pairs, by their numbers.
    """

    candidates: tuple[Candidate, ...]
    mean: Floats
    deviation: Floats
    run_noise: float
    joint: Callable[[NDArray[np.int64]], tuple[Floats, Floats]]

    @cached_property
    def best(self) -> Floats:
        """Probability of having the lowest error of all, one a pair; they add up to 1.

        In large pools the 512 most promising pairs are looked at.
        """
        drawn = np.argsort(self.mean - 3 * self.deviation, kind="stable")[:_DRAWN]
        best = np.zeros(len(self.mean))
        best[drawn] = probability_of_best(*self.joint(drawn))
        return best


@dataclass(frozen=True)
class _Places:
    """Where scores or estimates lie: one row each.

    Attributes:
        encoder: i.
        llm: j.
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
    """Condition the model on all scores of a study.

    Args:
        scores: all measurements, of any pairs of the pool at any rungs; may be empty.
        candidates: the whole pool.
        full_samples: D.
    """
    seen = tuple(scores)
    number = _Numbers(candidates)
    observed = number.places(
        [candidate for candidate, _ in seen],
        [math.log2(m.samples / full_samples) for _, m in seen],
    )
    y = np.array([m.log_error for _, m in seen]) - _common_mean(observed.x)
    documents = _SHARED * np.array([m.log_noise for _, m in seen]) ** 2
    model = _Fitted(observed, y, documents)
    whole = number.places(candidates, [0.0] * len(candidates))
    mean, deviation = model.moments(whole)
    return Posterior(
        tuple(candidates),
        mean,
        deviation,
        model.run_noise,
        lambda numbers: model.joint(whole.part(numbers)),
    )


def independent_posterior(
    candidates: Sequence[Candidate], mean: Sequence[float], deviation: Sequence[float]
) -> Posterior:
    """What is believed where each pair was looked at alone.

    Args:
        candidates: the pairs.
        mean: of ln error at r = 1, one a pair.
        deviation: standard deviation, one a pair.
    """
    y, s = np.array(mean), np.array(deviation)
    return Posterior(
        tuple(candidates), y, s, RUN_NOISE, lambda rows: (y[rows], np.diag(s[rows] ** 2))
    )


def probability_of_best(mean: Floats, covariance: Floats, *, seed: int = 0) -> Floats:
    """Probability of each of jointly normal errors to be the lowest, from draws.

    Args:
        mean: n.
        covariance: n x n.
        seed: of the draws; the same one gives the same probabilities.
    """
    jitter = 1e-9 * max(1.0, float(covariance.diagonal().max()))
    factor = cholesky(covariance + jitter * np.eye(len(mean)), lower=True)
    noise = np.random.default_rng(seed).standard_normal((_DRAWS, len(mean)))
    lowest = (mean + noise @ factor.T).argmin(axis=1)
    return np.asarray(np.bincount(lowest, minlength=len(mean)) / _DRAWS)


class _Numbers:
    """Numbers of encoders and LLMs."""

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
    """The model with its two hyperparameters chosen, conditioned on scores."""

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
        """Mean and standard deviation of each place, in pieces that fit into memory."""
        means, variances = [], []
        for start in range(0, len(places.x), _CHUNK):
            part = places.part(slice(start, start + _CHUNK))
            cross = self._prior(part, self._observed)
            solved = cho_solve(self._factor, cross.T)
            means.append(_common_mean(part.x) + cross @ self._weights)
            variances.append(self._variance(part) - np.einsum("ij,ji->i", cross, solved))
        return np.concatenate(means), np.sqrt(np.maximum(np.concatenate(variances), 1e-12))

    def joint(self, places: _Places) -> tuple[Floats, Floats]:
        """Mean and covariance of a few places."""
        cross = self._prior(places, self._observed)
        mean = _common_mean(places.x) + cross @ self._weights
        covariance = self._prior(places, places) - cross @ cho_solve(self._factor, cross.T)
        return mean, (covariance + covariance.T) / 2

    def _most_probable(self) -> tuple[float, float]:
        """C and h: each in turn the best on its grid, until neither moves."""
        scale, noise = _SCALE_PRIOR[0], min(_NOISES, key=lambda h: abs(h - _NOISE_PRIOR[0]))
        known: dict[tuple[float, float], float] = {}

        def density(c: float, h: float) -> float:
            if (c, h) not in known:
                known[c, h] = self._log_density(c, h)
            return known[c, h]

        while True:
            before = (scale, noise)
            scale = max(_SCALES, key=lambda c: density(c, noise))
            noise = max(_NOISES, key=lambda h: density(scale, h))
            if (scale, noise) == before:
                return before

    def _log_density(self, scale: float, noise: float) -> float:
        """Log marginal likelihood with the priors of c and h, up to a constant."""
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
        """The diagonal of K."""
        own = sum(s**2 for s in _SPREADS) * np.exp(2 * _GROWTH * math.log(2) * places.x)
        walk = _WALK**2 * (places.x - _FIRST)
        slope = (_SLOPE_SPREAD * places.x) ** 2
        return np.asarray(_LEVEL_SPREAD**2 + slope + walk + self._scale**2 * own)


# Where the random walk begins: below any rung.
_FIRST = -30.0


def _common_mean(x: Floats) -> Floats:
    """Prior mean of m."""
    return _LEVEL + _SLOPE * x


def _common(rows: _Places, columns: _Places) -> Floats:
    """Covariance of m; the walk's part before the earlier of two places is a level."""
    x, other = rows.x[:, None], columns.x[None]
    walk = _WALK**2 * (np.minimum(x, other) - _FIRST)
    return np.asarray(_LEVEL_SPREAD**2 + _SLOPE_SPREAD**2 * x * other + walk)


def _parts(rows: _Places, columns: _Places) -> Floats:
    """Covariance of u + v + w before it is scaled by c."""
    x, other = rows.x[:, None], columns.x[None]
    encoder = rows.encoder[:, None] == columns.encoder[None]
    llm = rows.llm[:, None] == columns.llm[None]
    covariance = np.zeros(encoder.shape)
    shared = (encoder, llm, encoder & llm)
    for spread, persistence, same in zip(_SPREADS, _PERSISTENCES, shared, strict=True):
        covariance += spread**2 * same * np.exp(-np.abs(x - other) / persistence)
    return np.asarray(covariance * np.exp(_GROWTH * math.log(2) * (x + other)))
