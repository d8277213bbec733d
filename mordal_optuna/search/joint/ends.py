"""Posterior of all pairs at r = 1 in a large pool of independent models.

The interaction of a pair without a score is independent of all scores, so that the covariance of
the pair's end with the scores is a sum over its encoder and its LLM. One system is solved for each
model and each scored pair instead of one for each pair of the pool. A further score adds a row to
L and S and changes none of the others, so that a growing list of scores is extended.

Symbols, beside those of `fitting`:
    M, N   numbers of encoders and LLMs
    P      number of scored pairs
    S      L^-1 times the prior covariances of the scores with the common curve, with each
           encoder's and each LLM's effect and with each scored pair's interaction, all at x = 0;
           n x (1 + M + N + P)
    s_ij   sum of the columns of S of pair (i, j): the common curve's, the encoder's, the LLM's,
           and, if the pair is scored, the interaction's
    F_ij   s_ij' s_ij, fall of the variance of y_ij(0) by the scores
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import solve_triangular

from mordal_optuna.search.joint import effects
from mordal_optuna.search.joint.effects import ERROR, LN2, Correlations, Places

if TYPE_CHECKING:
    from mordal_optuna.search.joint.effects import Floats, Hyperparameters, Indices


class Ends:
    """The ends of all pairs' curves, given scores.

    Attributes:
        solved: S.
        falls: F, M x N.
    """

    def __init__(
        self,
        values: Hyperparameters,
        correlations: Correlations,
        places: Places,
        factor: Floats,
        before: Ends | None = None,
    ) -> None:
        """Condition the ends.

        Args:
            values: hyperparameters.
            correlations: correlations of independent models.
            places: pair, samples and kind of each score.
            factor: L.
            before: the ends given the first of these scores, with the same hyperparameters.
        """
        self._values = values
        self._correlations = correlations
        self._shape = (len(correlations.encoders), len(correlations.llms))
        self._count = len(places)
        rows = places.encoder * self._shape[1] + places.llm
        # In the order of their first scores, so that columns keep their places.
        unique, first, inverse = np.unique(rows, return_index=True, return_inverse=True)
        order = np.argsort(first)
        self._pairs: Indices = unique[order]
        numbers = np.argsort(order)[inverse]
        old = before._count if before else 0
        cross = self._cross(places.part(slice(old, None)), numbers[old:])
        self.solved = np.zeros((len(places), cross.shape[1]), order="F")
        if before:
            self.solved[:old, : before.solved.shape[1]] = before.solved
            cross -= factor[old:, :old] @ self.solved[:old]
        new = solve_triangular(factor[old:, old:], cross, lower=True, check_finite=False)
        self.solved[old:] = new
        self.falls: Floats = self._squares(new)
        if before:
            self.falls = self.falls + before.falls

    def _cross(self, places: Places, numbers: Indices) -> Floats:
        """Prior covariances of scores with the columns of S.

        Args:
            places: the scores.
            numbers: for each score, the number of its pair among the scored ones.
        """
        values, (m, n) = self._values, self._shape
        growth = np.exp(values.growth * LN2 * places.x) * values.gains[places.kind]
        cross = np.zeros((len(places), 1 + m + n + len(self._pairs)), order="F")
        cross[:, 0] = np.sum(effects.common_covariances(values, _end(), places), axis=0)[0]
        rows = np.arange(len(places))
        starts = zip((1, 1 + m, 1 + m + n), values.spreads, values.lengths, strict=True)
        for (start, s, d), column in zip(
            starts, (places.encoder, places.llm, numbers), strict=True
        ):
            cross[rows, start + column] = s**2 * np.exp(places.x / d) * growth
        return cross

    def _squares(self, solved: Floats) -> Floats:
        """Sums of the squares of s over some rows of S, M x N."""
        m, n = self._shape
        left = solved[:, :1] + solved[:, 1 : 1 + m]
        right = solved[:, 1 + m : 1 + m + n]
        falls = (left**2).sum(axis=0)[:, None] + (right**2).sum(axis=0) + 2 * left.T @ right
        i, j = np.divmod(self._pairs, n)
        scored = left[:, i] + right[:, j] + solved[:, 1 + m + n :]
        falls[i, j] = np.einsum("ij,ij->j", scored, scored)
        return np.asarray(falls)

    @property
    def variance(self) -> Floats:
        """Variance of ln error of all pairs, encoder by encoder."""
        prior = effects.variance(self._values, _end())[0]
        return np.maximum(prior - self.falls, 1e-12).ravel()

    def covariance(self, rows: Indices) -> Floats:
        """Covariance of ln error of some pairs.

        Args:
            rows: indices of the pairs, encoder by encoder.
        """
        m, n = self._shape
        i, j = np.divmod(rows, n)
        solved = self.solved[:, :1] + self.solved[:, 1 + i] + self.solved[:, 1 + m + j]
        column = {int(pair): number for number, pair in enumerate(self._pairs)}
        scored = np.array([k for k, row in enumerate(rows) if int(row) in column], dtype=np.int64)
        own = [1 + m + n + column[int(rows[k])] for k in scored]
        solved[:, scored] += self.solved[:, own]
        places = Places(i, j, np.zeros(len(rows)), np.full(len(rows), ERROR))
        prior = effects.covariance(self._values, self._correlations, places, places)
        return np.asarray(prior - solved.T @ solved)


def _end() -> Places:
    """One place at x = 0; the models do not matter."""
    none = np.zeros(1, dtype=np.int64)
    return Places(none, none, np.zeros(1), np.full(1, ERROR))
