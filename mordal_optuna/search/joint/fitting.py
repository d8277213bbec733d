"""Maximum a posteriori hyperparameters of the joint model, and the process given scores.

Symbols, beside those of `effects`:
    n      number of scores
    y      scores less their prior mean, n entries
    V      variance of the documents' noise of y, n entries
    G      covariance of y with its noise: K + diag(k V + h_q^2), n x n
    L      lower Cholesky factor of G
    a      G^-1 y
    t      natural logarithms of the hyperparameters
    z_p    last score of pair p, less its mean given the scores of all other pairs, over its
           standard deviation; P pairs
    c      number of pairs that count as if their z^2 was 1
    f      inflation, sqrt((c + sum_p z_p^2) / (c + P)), at least 1
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve, cholesky, solve_triangular

from mordal_optuna.search.joint import effects
from mordal_optuna.search.joint.effects import ERROR, LIKELIHOOD, LN2, Hyperparameters, Places
from mordal_optuna.search.joint.ends import Ends

if TYPE_CHECKING:
    from mordal_optuna.search.joint.effects import Correlations, Floats, Hyperprior

# Scores that hyperparameters are fitted to: more change them little and cost n^3.
_FITTED = 400
_STEPS = 20
# Standard deviations of the prior within which t is searched. The best values are far inside.
# Without bounds, a step of the search may be so long that they overflow.
_WIDEST = 8.0
# Index of h_0, and the factor (its logarithm) by which the search for hyperparameters begins above
# its median: from below, noise may be taken for an interaction that changes from rung to rung.
_NOISE, _NOISIER = 8, np.log(4.0)
# c; so that a few pairs that are hard to predict do not widen all intervals.
_EXPECTED = 10
# Added to the diagonal of covariances, so that rounding does not make them indefinite.
JITTER = 1e-10


@dataclass(frozen=True)
class Scores:
    """Scores as the process sees them.

    Attributes:
        places: pair, samples and kind of each.
        values: y with its prior mean, one entry per score.
        documents: V, one entry per score.
    """

    places: Places
    values: Floats
    documents: Floats

    def part(self, rows: slice | np.ndarray) -> Scores:
        """Some of the scores."""
        return Scores(self.places.part(rows), self.values[rows], self.documents[rows])


def thinned(scores: Scores) -> Scores:
    """The scores; of more than 400, 400 at equal distances in their order."""
    if len(scores.places) <= _FITTED:
        return scores
    return scores.part(np.linspace(0, len(scores.places) - 1, _FITTED).round().astype(np.int64))


def most_probable(
    scores: Scores, correlations: Correlations, prior: Hyperprior
) -> Hyperparameters:
    """The hyperparameters with the highest posterior density, by L-BFGS from the prior's medians.

    Of more than 400 scores, 400 at equal distances in their order are used.

    Args:
        scores: scores of any pairs at any rungs; may be empty.
        correlations: correlations of the effects.
        prior: priors of the hyperparameters.
    """
    scores = thinned(scores)
    logs = prior.logs
    if len(scores.places) > 1:
        density = _Density(scores, correlations, prior)
        begin = logs.copy()
        begin[_NOISE] += _NOISIER
        # Imported here, since commands that fit nothing need not load it.
        from scipy.optimize import minimize

        reach = _WIDEST * np.array(prior.spreads)
        found = minimize(
            density,
            begin,
            jac=True,
            method="L-BFGS-B",
            bounds=np.column_stack([logs - reach, logs + reach]),
            options={"maxiter": _STEPS},
        )
        logs = found.x
    return Hyperparameters.of(logs)


def inflation(scores: Scores, correlations: Correlations, values: Hyperparameters) -> float:
    """The factor f by which the process's standard deviations are too small, at least 1.

    A process that fits the scores predicts the last score of a pair from all other pairs with
    z^2 = 1 on average. Of more than 400 scores, 400 are used, as in `most_probable`. With B the
    rows of a pair, its residuals are (Q_BB)^-1 (G^-1 y)_B and their covariance (Q_BB)^-1,
    Q = G^-1 (Rasmussen and Williams 2006, section 5.4.2).

    Args:
        scores: scores of any pairs at any rungs; may be empty.
        correlations: correlations of the effects.
        values: hyperparameters.
    """
    scores = thinned(scores)
    places = scores.places
    process = Process(values, correlations, scores)
    inverse = process.inverse()
    weights = inverse @ (scores.values - effects.common_mean(places))
    squares = []
    for row in _last_rows(places):
        same = (places.encoder == places.encoder[row]) & (places.llm == places.llm[row])
        rows = np.flatnonzero(same)
        covariance = np.linalg.inv(inverse[np.ix_(rows, rows)])
        last = int(np.flatnonzero(rows == row)[0])
        residual = float(covariance[last] @ weights[rows])
        squares.append(residual**2 / float(covariance[last, last]))
    mean = (_EXPECTED + sum(squares)) / (_EXPECTED + len(squares))
    return max(1.0, math.sqrt(mean))


def _last_rows(places: Places) -> list[int]:
    """Row of the score at the highest rung of each pair; likelihoods are no scores."""
    last: dict[tuple[int, int], int] = {}
    for row in np.flatnonzero(places.kind == ERROR).tolist():
        pair = (int(places.encoder[row]), int(places.llm[row]))
        if pair not in last or places.x[row] > places.x[last[pair]]:
            last[pair] = row
    return list(last.values())


class _Density:
    """Negative log posterior density of the hyperparameters' logarithms, with its gradient.

    The gradient of -log p(y | t) is trace(Q dG/dt) / 2 with Q = G^-1 - a a' (Rasmussen and
    Williams 2006, equation 5.9).
    """

    def __init__(self, scores: Scores, correlations: Correlations, prior: Hyperprior) -> None:
        self._scores = scores
        self._correlations = correlations
        places = scores.places
        self._y = scores.values - effects.common_mean(places)
        ones = Hyperparameters.of(0 * prior.logs)
        self._line, self._walk = effects.common_covariances(ones, places, places)
        self._apart = np.abs(places.x[:, None] - places.x[None])
        self._sums = places.x[:, None] + places.x[None]
        second = (places.kind == LIKELIHOOD).astype(float)
        self._second = second
        self._seconds = second[:, None] + second[None]
        self._median = prior.logs
        self._spread = np.array(prior.spreads)

    def __call__(self, logs: Floats) -> tuple[float, Floats]:
        values = Hyperparameters.of(logs)
        places = self._scores.places
        parts = effects.effect_covariances(values, self._correlations, places, places)
        whole = parts[0] + parts[1] + parts[2]
        noise = values.shared * self._scores.documents + values.noises[places.kind] ** 2
        shape = self._line + values.walk**2 * self._walk
        try:
            factor = cho_factor(shape + whole + np.diag(noise + JITTER), lower=True)
        except LinAlgError:
            return 1e10, np.zeros(len(logs))  # a point of the line search that rounding rules out
        a = cho_solve(factor, self._y)
        q = cho_solve(factor, np.eye(len(a))) - np.outer(a, a)
        z = (logs - self._median) / self._spread
        density = (self._y @ a + z @ z) / 2 + float(np.log(factor[0].diagonal()).sum())
        return density, self._gradient(values, parts, whole, q) + z / self._spread

    def _gradient(
        self,
        values: Hyperparameters,
        parts: tuple[Floats, Floats, Floats],
        whole: Floats,
        q: Floats,
    ) -> Floats:
        lengths = zip(parts, values.lengths, strict=True)
        diagonal, kinds = q.diagonal(), self._second
        weighted = q * whole
        return np.array(
            [
                *((q * part).sum() for part in parts),
                *((q * part * self._apart).sum() / (2 * d) for part, d in lengths),
                (weighted * self._sums).sum() * values.growth * LN2 / 2,
                (diagonal @ self._scores.documents) * values.shared / 2,
                (diagonal @ (1 - kinds)) * values.noise**2,
                (weighted * self._seconds).sum() / 2,
                (diagonal @ kinds) * values.likelihood_noise**2,
                (q * self._walk).sum() * values.walk**2,
            ]
        )


class Process:
    """The process given scores."""

    def __init__(
        self,
        values: Hyperparameters,
        correlations: Correlations,
        scores: Scores,
        *,
        before: Process | None = None,
    ) -> None:
        """Condition the process.

        Args:
            values: hyperparameters.
            correlations: correlations of the effects.
            scores: scores of any pairs at any rungs; may be empty.
            before: process with the same hyperparameters and correlations, and with the first of
                these scores; its factor is extended.
        """
        self.values = values
        self._correlations = correlations
        self._scores = scores
        self._before = before
        self._earlier_ends = before._ends if before else None
        self._ends: Ends | None = None

    @cached_property
    def _factor(self) -> Floats:
        """L."""
        before, self._before = self._before, None  # a chain of processes would keep all factors
        if before is None:
            return np.asarray(cholesky(self._noisy(slice(None)), lower=True, overwrite_a=True))
        # With L_0 of the first n_0 scores, B their covariance with the rest and S of the rest:
        # L = [[L_0, 0], [(L_0^-1 B)', chol(S - B' G_0^-1 B)]].
        old, count = len(before._scores.places), len(self._scores.places)
        rest = self._scores.places.part(slice(old, count))
        cross = effects.covariance(self.values, self._correlations, before._scores.places, rest)
        solved = solve_triangular(before._factor, cross, lower=True, check_finite=False)
        factor = np.zeros((count, count), order="F")  # as LAPACK wants it, so without copies
        factor[:old, :old] = before._factor
        factor[old:, :old] = solved.T
        left = self._noisy(slice(old, count)) - solved.T @ solved
        factor[old:, old:] = cholesky(left, lower=True)
        return factor

    def _noisy(self, rows: slice) -> Floats:
        """G of some of the scores."""
        part = self._scores.part(rows)
        g = effects.covariance(self.values, self._correlations, part.places, part.places)
        kinds = self.values.noises[part.places.kind] ** 2
        g[np.diag_indices(len(g))] += self.values.shared * part.documents + kinds + JITTER
        return g

    @cached_property
    def _weights(self) -> Floats:
        """A."""
        y = self._scores.values - effects.common_mean(self._scores.places)
        half = solve_triangular(self._factor, y, lower=True, check_finite=False)
        return np.asarray(
            solve_triangular(self._factor, half, lower=True, trans="T", check_finite=False)
        )

    def inverse(self) -> Floats:
        """G^-1."""
        return np.asarray(cho_solve((self._factor, True), np.eye(len(self._scores.places))))

    def at(self, places: Places) -> tuple[Floats, Floats]:
        """Mean and covariance of y at some places."""
        solved, mean = self._solved(places)
        prior = effects.covariance(self.values, self._correlations, places, places)
        result = prior - solved.T @ solved
        return mean, (result + result.T) / 2

    def moments(self, places: Places) -> tuple[Floats, Floats]:
        """Mean and variance of y at each place."""
        solved, mean = self._solved(places)
        rest = effects.variance(self.values, places) - np.einsum("ij,ij->j", solved, solved)
        return mean, np.maximum(rest, 1e-12)

    def grid_mean(self) -> Floats:
        """Mean of ln error at x = 0 of all pairs, encoder by encoder, without their covariances.

        The covariance of a pair with a score is a product of the encoders' and the LLMs'
        correlations, so the sum over scores is a product of matrices.
        """
        places, values = self._scores.places, self.values
        end = Places(*(np.zeros(1, dtype=np.int64),) * 2, np.zeros(1), np.zeros(1, dtype=np.int64))
        line, walk = effects.common_covariances(values, end, places)
        common = effects.common_mean(end) + (line + walk) @ self._weights
        growth = np.exp(values.growth * LN2 * places.x) * values.gains[places.kind]
        parts = [
            s**2 * np.exp(places.x / d) * growth * self._weights
            for s, d in zip(values.spreads, values.lengths, strict=True)
        ]
        a, b = self._correlations.encoders, self._correlations.llms
        u: Floats = np.bincount(places.encoder, parts[0], minlength=len(a)).astype(float)
        v: Floats = np.bincount(places.llm, parts[1], minlength=len(b)).astype(float)
        w = np.zeros((len(a), len(b)))
        np.add.at(w, (places.encoder, places.llm), parts[2])
        if not self._correlations.are_independent:
            u, v, w = a @ u, b @ v, a @ w @ b
        return np.asarray(common + (u[:, None] + v[None] + w).ravel())

    def ends(self) -> Ends:
        """The ends of all pairs' curves; only for independent models."""
        if self._ends is None:
            self._ends = Ends(
                self.values,
                self._correlations,
                self._scores.places,
                self._factor,
                self._earlier_ends,
            )
            self._earlier_ends = None
        return self._ends

    def _solved(self, places: Places) -> tuple[Floats, Floats]:
        """L^-1 times the covariance with the scores, and the mean of y."""
        cross = effects.covariance(self.values, self._correlations, self._scores.places, places)
        mean = effects.common_mean(places) + cross.T @ self._weights
        return solve_triangular(self._factor, cross, lower=True, check_finite=False), mean
