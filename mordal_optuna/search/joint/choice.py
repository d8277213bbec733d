"""The choice of a round of jobs from a joint model.

The knowledge gradient of a score is the expected fall of the lowest posterior mean by it (Frazier,
Powell and Dayanik 2009). It is 0 for scores that cannot change the winner, so the fall of the
weighted variance orders these.

Symbols:
    p      a pair; y_p its ln error at r = 1, m_p the posterior mean of y_p
    o      a possible score: a pair at a rung
    C_po   posterior covariance of y_p with the score o
    V_o    posterior variance of the score o with its noise
    z      a standard normal; the score o moves m_p by z C_po / sqrt(V_o)
    w_p    weight of a pair, E[(1 + rank_p)^-2] over posterior draws, normed to sum 1
    f_o    fall of sum_p w_p Var(y_p - sum_p w_p y_p) by the score o
    c_o    cost of the job that gives the score o
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
from scipy.stats import norm

from mordal_optuna.search.joint.posterior import posterior_draws

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.joint.effects import Floats
    from mordal_optuna.search.joint.job_costs import JobCosts
    from mordal_optuna.search.joint.posterior import JointModel

# Significant digits of values that are compared, so that rounding errors decide nothing.
_DIGITS = 9
# Pairs that are considered for jobs, by number of scores: the most promising ones of large pools.
_CONSIDERED, _CONSIDERED_LARGE, _LARGE = 512, 160, 1500
# Posterior draws that w is taken from.
_WEIGHED = 512
# Values of z, and their weights: the expectation is an integral by the trapezoidal rule.
_NORMALS = np.linspace(-4, 4, 33)
_WEIGHTS = norm.pdf(_NORMALS) / norm.pdf(_NORMALS).sum()
# Weight of f beside the knowledge gradient, small enough to break ties alone.
_TIES = 1e-9


@dataclass(frozen=True)
class Move:
    """A pair that is trained further.

    Attributes:
        candidate: the pair.
        rungs: rungs at which it is scored, in samples, ascending; it is trained up to the last.
    """

    candidate: Candidate
    rungs: tuple[int, ...]


@dataclass(frozen=True)
class Situation:
    """Everything a round is chosen from.

    Attributes:
        model: the joint model of the scores that the round may depend on.
        tops: highest rung that each pair was asked for so far, in samples.
        pending: scores that were asked for and that the model has not got.
        excluded: pairs that cannot be trained.
        rungs: all rungs, ascending; the last is D.
        first: rungs to which an untrained pair may go at once, ascending.
        costs: expected costs.
        documents: number of documents behind a score, for the expected noise.
        left: cost that the round may have, in the unit of `costs`; None for no limit.
    """

    model: JointModel
    tops: Mapping[Candidate, int]
    pending: Sequence[tuple[Candidate, int]]
    excluded: frozenset[Candidate]
    rungs: tuple[int, ...]
    first: tuple[int, ...]
    costs: JobCosts
    documents: int
    left: float | None = None


class Choice(Protocol):
    """A rule that chooses the jobs of a round."""

    def __call__(self, situation: Situation, size: int) -> list[Move]:
        """The moves of the next round, at most `size`, most useful first; empty at the end."""
        ...


@dataclass
class Board:
    """The joint posterior of the considered pairs at r = 1 and of the scores they may get.

    It is updated for each chosen score, which needs no value of the score: a Gaussian's covariance
    depends on where it is observed alone.

    Attributes:
        candidates: the considered pairs, n entries.
        options: possible jobs as (index of the pair, rung).
        mean: posterior means of y, n entries.
        covariance: posterior covariance of y and of the options' scores without noise.
        noise: expected noise variance of the options' scores.
        prices: c_o of each option.
    """

    candidates: tuple[Candidate, ...]
    options: list[tuple[int, int]]
    mean: Floats
    covariance: Floats
    noise: Floats
    prices: Floats
    open: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))

    @staticmethod
    def of(situation: Situation) -> Board:
        """The board at the beginning of a round."""
        model = situation.model
        candidates = _considered(situation)
        options, prices = [], []
        for index, candidate in enumerate(candidates):
            for rung in next_rungs(situation, candidate):
                options.append((index, rung))
                prices.append(price(situation, candidate, rung))
        pending = list(situation.pending)
        places = [
            *((c, situation.rungs[-1]) for c in candidates),
            *((candidates[i], rung) for i, rung in options),
            *pending,
        ]
        mean, covariance = model.at([c for c, _ in places], [rung for _, rung in places])
        n, m = len(candidates), len(options)
        noise = _expected_noise(mean[n:], model, situation.documents)
        for offset in range(len(pending)):
            row = n + m + offset
            covariance = _observed(covariance, row, noise[m + offset])
        board = Board(
            candidates,
            options,
            mean[:n],
            covariance[: n + m, : n + m],
            noise[:m],
            np.array(prices),
        )
        board.open = np.ones(m, dtype=bool)
        return board

    @property
    def count(self) -> int:
        """n, number of considered pairs."""
        return len(self.candidates)

    def falls(self, weights: Floats) -> Floats:
        """Fall of the weighted variance by each option, sum_p w_p C_po^2 / V_o."""
        n = self.count
        cross = self.covariance[:n, n:]
        relative = cross - weights @ cross
        total = self.covariance.diagonal()[n:] + self.noise
        return np.asarray((weights[:, None] * relative**2).sum(axis=0) / total)

    def take(self, option: int) -> None:
        """Choose an option: its pair has no further one in this round."""
        self.covariance = _observed(self.covariance, self.count + option, self.noise[option])
        pair = self.options[option][0]
        self.open &= np.array([index != pair for index, _ in self.options])

    def best(self, values: Floats, left: float | None) -> int | None:
        """The open option with the highest value that fits into what is left; None without."""
        allowed = self.open if left is None else self.open & (self.prices <= left)
        if not allowed.any():
            return None
        return int(np.argmax(np.where(allowed, rounded(values), -np.inf)))


def _considered(situation: Situation) -> tuple[Candidate, ...]:
    model = situation.model
    if len(model.candidates) <= _CONSIDERED:
        return model.candidates
    most = _CONSIDERED_LARGE if model.scored > _LARGE else _CONSIDERED
    order = np.argsort(rounded(model.means), kind="stable")[:most]
    return tuple(model.candidates[n] for n in np.sort(order))


def next_rungs(situation: Situation, candidate: Candidate) -> Sequence[int]:
    """Rungs to which a pair may be trained next: one or two further, or the first ones."""
    if candidate in situation.excluded:
        return ()
    top = situation.tops.get(candidate, 0)
    if not top:
        return situation.first
    return [rung for rung in situation.rungs if rung > top][:2]


def price(situation: Situation, candidate: Candidate, rung: int) -> float:
    """Expected cost of training a pair to a rung and scoring it there."""
    samples = rung - situation.tops.get(candidate, 0)
    costs = situation.costs
    return costs.train(candidate, samples) + costs.evaluate(candidate)


def _expected_noise(mean: Floats, model: JointModel, documents: int) -> Floats:
    """Noise of a score of ln error `mean`, by the delta method for a share of the documents."""
    error = np.clip(np.exp(mean), 1e-3, 0.99)
    sampling = (1 - error) / error / documents
    return np.asarray(model.values.shared * sampling + model.values.noise**2)


def _observed(covariance: Floats, row: int, noise: float) -> Floats:
    """The covariance after the score of a row is known."""
    column = covariance[:, row]
    return covariance - np.outer(column, column) / (column[row] + noise)


def rounded(values: Floats) -> Floats:
    """Values to nine significant digits."""
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = 10.0 ** (_DIGITS - 1 - np.floor(np.log10(np.abs(values))))
    usable = np.isfinite(scale) & np.isfinite(values)
    scale = np.where(usable, scale, 1.0)
    return np.where(usable, np.round(values * scale) / scale, values)


def rank_weights(draws: Floats) -> Floats:
    """w_p, from draws x pairs."""
    ranks = draws.argsort(axis=1).argsort(axis=1)
    weights = ((1.0 + ranks) ** -2).mean(axis=0)
    return np.asarray(weights / weights.sum())


def chance_of_best(draws: Floats) -> Floats:
    """Share of the draws in which each pair has the lowest error."""
    return np.asarray(np.bincount(draws.argmin(axis=1), minlength=draws.shape[1]) / len(draws))


class GreedyChoice:
    """Chooses the most valuable jobs one by one; subclasses say what a score is worth."""

    def values(self, board: Board, weights: Floats) -> Floats:
        """Value of each option's score, at least 0, not yet divided by its cost.

        Args:
            board: the pairs and options, given all jobs chosen so far.
            weights: w, one entry per considered pair.
        """
        raise NotImplementedError

    def __call__(self, situation: Situation, size: int) -> list[Move]:
        """See `Choice`."""
        board = Board.of(situation)
        n = board.count
        draws = posterior_draws(board.mean, board.covariance[:n, :n])[:_WEIGHED]
        weights = rank_weights(draws)
        moves: list[Move] = []
        left = situation.left
        while len(moves) < size:
            option = board.best(self.values(board, weights) / board.prices, left)
            if option is None:
                break
            index, rung = board.options[option]
            moves.append(Move(board.candidates[index], (rung,)))
            board.take(option)
            left = None if left is None else left - float(board.prices[option])
        return moves


class VarianceChoice(GreedyChoice):
    """The fall of the pairs' weighted variance f per cost."""

    def values(self, board: Board, weights: Floats) -> Floats:
        """F of each option."""
        return board.falls(weights)


class KnowledgeGradient(GreedyChoice):
    """The knowledge gradient per cost."""

    def values(self, board: Board, weights: Floats) -> Floats:
        """The expected fall of the lowest m, in ln error."""
        n = board.count
        total = board.covariance.diagonal()[n:] + board.noise
        moves = board.covariance[:n, n:] / np.sqrt(total)
        lowest = np.array([(board.mean[:, None] + z * moves).min(axis=0) for z in _NORMALS])
        gains = np.maximum(board.mean.min() - _WEIGHTS @ lowest, 0.0)
        return np.asarray(gains + _TIES * board.falls(weights))
