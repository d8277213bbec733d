"""A low-rank model of the scores of one study, encoder x LLM x ratio, with few known entries.

Fitted by alternating ridge regressions: given two of the factors A, B and C, the model is linear
in the third. The ridge is the precision of a normal prior over the precision of the scores. All
held-out folds and all ranks are fitted at once, as a batch of problems.

Symbols:
    i, j, r    encoder, LLM, ratio (number of the rung)
    x_r        log2(samples / D), at most 0
    y_ijr      ln error
    m_r        level of a ratio
    F          number of components, 2 + k; f is one of them
    A, B, C    factors: encoders x F, LLMs x F, ratios x F
    y_ijr      = m_r + sum_f A_if B_jf C_rf + noise
    k          rank of the interaction. Component 0 is the encoders' effect (B = 1), component 1
               the LLMs' effect (A = 1), the k others are products
    s          standard deviation of the noise: documents by the delta method, and a run's h
    g          gradient of y_ijr in the free entries of A and B
    M          information about these entries: prior precision + sum g g' / s^2
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

# Standard deviations of the priors: effects, products' factors, C around 1, m_r around a line of
# the usual slope. They are about those of the package's own model of all scores.
_EFFECT, _FACTOR, _RATIO, _LEVEL = 0.2, 0.4, 0.3, 0.1
_SLOPE = -0.25 * np.log(2)
# Precision of an entry that is fixed.
_FIXED = 1e9
# Run noise of a score, h.
RUN_NOISE = 0.06
_SWEEPS = 20
_FOLDS = 5
RANKS = (0, 1, 2)


@dataclass(frozen=True)
class Known:
    """The known entries.

    Attributes:
        shape: numbers of encoders, LLMs and ratios.
        x: x_r of every ratio.
        places: i, j and r of every entry, entries x 3.
        y: ln error of every entry.
        variance: s^2 of every entry.
    """

    shape: tuple[int, int, int]
    x: Floats
    places: NDArray[np.int64]
    y: Floats
    variance: Floats


@dataclass(frozen=True)
class LowRank:
    """A fitted model.

    Attributes:
        rank: k.
        a: A, encoders x F.
        b: B, LLMs x F.
        c: C, ratios x F.
        predicted: predicted ln error of every entry, encoders x LLMs x ratios.
    """

    rank: int
    a: Floats
    b: Floats
    c: Floats
    predicted: Floats

    def gradients(self, ratio: int) -> Floats:
        """Gradient g of every pair at a ratio, encoders x LLMs x free entries of A and B."""
        encoders, llms = len(self.a), len(self.b)
        free = [0, *range(2, 2 + self.rank)], [1, *range(2, 2 + self.rank)]
        own, others = (self.b * self.c[ratio])[:, free[0]], (self.a * self.c[ratio])[:, free[1]]
        width = 1 + self.rank
        g = np.zeros((encoders, llms, (encoders + llms) * width))
        for i in range(encoders):
            g[i, :, i * width : (i + 1) * width] = own
        for j in range(llms):
            start = (encoders + j) * width
            g[:, j, start : start + width] = others
        return g

    def prior_precision(self) -> Floats:
        """Prior precision of the free entries, the diagonal of M without scores."""
        part = np.array([_EFFECT, *[_FACTOR] * self.rank]) ** -2
        return np.tile(part, len(self.a) + len(self.b))


def fit(known: Known, rank: int) -> LowRank:
    """Fit a model of a given rank to all known entries.

    Args:
        known: the known entries; may be none.
        rank: k, at least 0.
    """
    weights = _dense(known, 1 / known.variance)
    return _models(known, weights[None], [rank])[0]


def fit_best_rank(known: Known) -> LowRank:
    """Fit a model whose rank predicts held-out pairs best, of ranks 0 to 2.

    Pairs are dealt to five folds in the order of the pool; all entries of a pair are held out
    together. With fewer pairs than twice the folds the rank is 0.

    Args:
        known: the known entries; may be none.
    """
    pairs = known.places[:, 0] * known.shape[1] + known.places[:, 1]
    unique = np.unique(pairs)
    if len(unique) < 2 * _FOLDS:
        return fit(known, 0)
    fold = np.searchsorted(unique, pairs) % _FOLDS
    weights = 1 / known.variance
    cut = np.array([_dense(known, weights * (fold != n)) for n in range(_FOLDS)])
    whole = _dense(known, weights)
    ranks = [k for k in RANKS for _ in range(_FOLDS)] + list(RANKS)
    models = _models(known, np.concatenate((*[cut] * len(RANKS), [whole] * len(RANKS))), ranks)
    i, j, r = known.places.T
    losses = []
    for n in range(len(RANKS)):
        folds = models[n * _FOLDS : (n + 1) * _FOLDS]
        predicted = np.array([model.predicted[i, j, r] for model in folds])[fold, range(len(i))]
        losses.append(float(((known.y - predicted) ** 2 * weights).sum()))
    return models[len(RANKS) * _FOLDS + int(np.argmin(losses))]


def _dense(known: Known, values: Floats) -> Floats:
    table = np.zeros(known.shape)
    table[tuple(known.places.T)] = values
    return table


def _models(known: Known, weights: Floats, ranks: Sequence[int]) -> list[LowRank]:
    """One model per problem; `weights` are problems x encoders x LLMs x ratios, 0 if not known."""
    y, problems = _dense(known, known.y), len(ranks)
    sizes, most = known.shape, 2 + max(ranks)
    rng = np.random.default_rng(0)
    means, precisions, factors = [], [], []
    for side, size in enumerate(sizes):
        mean, precision = _prior(side, most, ranks)
        factor = np.tile(mean, (1, size, 1)) * np.ones((problems, 1, 1))
        if side == 1:  # products of zeros would stay zero
            start = rng.normal(0, _FACTOR, (size, most))
            used = np.arange(most) < 2 + np.array(ranks)[:, None, None]
            factor = np.where((np.arange(most) >= 2) & used, start, factor)
        means.append(mean)
        precisions.append(precision)
        factors.append(factor)
    level = _levels(known, y, weights, np.zeros_like(weights))
    for _ in range(_SWEEPS):
        for side in range(3):
            rest = y - level[:, None, None, :]
            factors[side] = _solve(side, rest, weights, factors, means[side], precisions[side])
        a, b, c = factors
        products = (a[:, :, None] * b[:, None]).reshape(problems, -1, most)
        effects = (products @ c.transpose(0, 2, 1)).reshape(weights.shape)
        level = _levels(known, y, weights, effects)
    predicted = level[:, None, None, :] + effects
    return [
        LowRank(k, a[n, :, : 2 + k], b[n, :, : 2 + k], c[n, :, : 2 + k], predicted[n])
        for n, k in enumerate(ranks)
    ]


def _prior(side: int, most: int, ranks: Sequence[int]) -> tuple[Floats, Floats]:
    """Prior means and precisions of a factor's rows, problems x 1 x F."""
    mean, spread = np.zeros(most), np.full(most, _FACTOR)
    precision = np.zeros((len(ranks), 1, most))
    if side == 2:
        mean, spread = np.ones(most), np.full(most, _RATIO)
    else:
        spread[side], mean[1 - side] = _EFFECT, 1.0
    precision[:] = spread**-2.0
    if side != 2:
        precision[:, :, 1 - side] = _FIXED
    unused = np.arange(most) >= 2 + np.array(ranks)[:, None]
    precision[unused[:, None, :]] = _FIXED
    return np.broadcast_to(mean, (len(ranks), 1, most)), precision


def _solve(
    side: int,
    rest: Floats,
    weights: Floats,
    factors: Sequence[Floats],
    mean: Floats,
    precision: Floats,
) -> Floats:
    """Ridge regression of one factor, given the two others."""
    one, other = (factors[n] for n in range(3) if n != side)
    problems, size, width = len(weights), weights.shape[1 + side], mean.shape[-1]
    design = (one[:, :, None] * other[:, None]).reshape(problems, -1, width)
    own = np.moveaxis(weights, 1 + side, 1).reshape(problems, size, -1)
    target = own * np.moveaxis(rest, 1 + side, 1).reshape(problems, size, -1)
    products = (design[..., None] * design[:, :, None]).reshape(problems, -1, width**2)
    normal = (own @ products).reshape(problems, size, width, width)
    normal = normal + precision[..., None] * np.eye(width)
    right = target @ design + precision * mean
    return np.asarray(np.linalg.solve(normal, right[..., None])[..., 0])


def _levels(known: Known, y: Floats, weights: Floats, effects: Floats) -> Floats:
    """m_r: the mean of a ratio's entries, drawn toward a line through all; problems x ratios."""
    slope = _SLOPE * known.x
    total = weights.sum(axis=(1, 2))
    sums = (weights * (y - effects)).sum(axis=(1, 2))
    every = total.sum(axis=1, keepdims=True)
    line = np.log(0.5) + slope
    centre = (sums - total * slope).sum(axis=1, keepdims=True) / np.maximum(every, 1e-12)
    line = np.where(every > 0, centre + slope, line)
    return np.asarray((sums + line / _LEVEL**2) / (total + 1 / _LEVEL**2))
