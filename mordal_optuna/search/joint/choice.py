"""The choice of a round of jobs from the joint model of each task.

The knowledge gradient of a score is the expected fall of the lowest posterior mean by it (Frazier,
Powell and Dayanik 2009). It is 0 for scores that cannot change the winner, so the fall of the
weighted variance orders these. With several tasks, the values of a score on all tasks are added,
in points of each task's leader and by the tasks' weights, since one training serves all of them.

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

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from mordal_optuna.search.joint.board import Board, Move, Options, best_option
from mordal_optuna.search.joint.posterior import posterior_draws

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.joint.board import Situation
    from mordal_optuna.search.joint.effects import Floats

# Posterior draws that w is taken from.
_WEIGHED = 512
# Values of z, and their weights: the expectation is an integral by the trapezoidal rule.
_NORMALS = np.linspace(-4, 4, 33)
# The normal density, operation by operation as `scipy.stats.norm` has it, which loads for long.
_DENSITY = np.exp(-(_NORMALS**2) / 2.0) / np.sqrt(2 * np.pi)
_WEIGHTS = _DENSITY / _DENSITY.sum()
# Weight of f beside the knowledge gradient, small enough to break ties alone.
_TIES = 1e-9


class Choice(Protocol):
    """A rule that chooses the jobs of a round."""

    def __call__(self, situation: Situation, size: int) -> list[Move]:
        """The moves of the next round, at most `size`, most useful first; empty at the end."""
        ...


class GreedyChoice(ABC):
    """Chooses the most valuable jobs one by one; subclasses say what a score is worth."""

    @abstractmethod
    def values(self, board: Board, weights: Floats) -> Floats:
        """Value of each option's score in ln error, at least 0, not yet divided by its cost.

        Args:
            board: pairs and options on one task, given all jobs chosen so far.
            weights: w, one entry per considered pair.
        """

    def __call__(self, situation: Situation, size: int) -> list[Move]:
        """See `Choice`."""
        options = Options.of(situation)
        table = _Tables(situation, options)
        moves: list[Move] = []
        rates: list[float] = []
        left = situation.left
        free = np.ones(len(options.scores), dtype=bool)
        pairs = np.array([index for index, _ in options.scores])
        while len(moves) < size:
            usable = free if left is None else free & (options.prices <= left)
            option = best_option(table.sum(self.values) / options.prices, usable)
            if option is None:
                break
            index, rung = options.scores[option]
            moves.append(Move(options.candidates[index], (rung,)))
            rates.append(float(table.sum(Board.falls)[option] / options.prices[option]))
            table.take(option)
            free &= pairs != index
            left = None if left is None else left - float(options.prices[option])
        return _with_passed(situation, options.candidates, moves, min(rates, default=0.0), left)


class VarianceChoice(GreedyChoice):
    """The fall of the pairs' weighted variance f per cost."""

    def values(self, board: Board, weights: Floats) -> Floats:
        """The values f of all options."""
        return board.falls(weights)


class KnowledgeGradient(GreedyChoice):
    """The knowledge gradient per cost."""

    def values(self, board: Board, weights: Floats) -> Floats:
        """The expected fall of the lowest m, in ln error."""
        moves = board.cross / np.sqrt(board.total)
        lowest = np.array([(board.mean[:, None] + z * moves).min(axis=0) for z in _NORMALS])
        gains = np.maximum(board.mean.min() - _WEIGHTS @ lowest, 0.0)
        return np.asarray(gains + _TIES * board.falls(weights))


class _Tables:
    """The boards of all tasks."""

    def __init__(self, situation: Situation, options: Options) -> None:
        self._boards = [Board(situation, target, options) for target in situation.targets]
        self._shares = [target.weight for target in situation.targets]
        self._weights = []
        for board in self._boards:
            n = board.count
            draws = posterior_draws(board.mean, board.covariance[:n, :n])[:_WEIGHED]
            self._weights.append(rank_weights(draws))

    def sum(self, values: Callable[[Board, Floats], Floats]) -> Floats:
        """Values of the options, added over the tasks in points of each task's leader."""
        parts = [
            share * np.exp(board.mean.min()) * values(board, weights)
            for board, share, weights in zip(
                self._boards, self._shares, self._weights, strict=True
            )
        ]
        return np.asarray(np.sum(parts, axis=0))

    def take(self, option: int) -> None:
        for board in self._boards:
            board.take(option)


def _with_passed(
    situation: Situation,
    considered: tuple[Candidate, ...],
    moves: Sequence[Move],
    rate: float,
    left: float | None,
) -> list[Move]:
    """The moves, with scores at rungs that are only passed where these pay.

    Args:
        situation: the situation before the moves.
        considered: the considered pairs.
        moves: the chosen moves, each scored at its last rung.
        rate: f per cost of the least valuable move; a further score must give more.
        left: cost that is left; None for no limit.
    """
    candidates = {move.candidate: move.rungs[-1] for move in moves}
    passed = [
        (candidate, rung)
        for candidate, target in candidates.items()
        for rung in situation.rungs
        if situation.tops.get(candidate, 0) < rung < target
    ]
    if not passed:
        return list(moves)
    numbers = {candidate: n for n, candidate in enumerate(considered)}
    prices = np.array([max(situation.costs.evaluate(c), 1e-9) for c, _ in passed])
    options = Options(considered, tuple((numbers[c], rung) for c, rung in passed), prices)
    pending = (*situation.pending, *candidates.items())
    table = _Tables(replace(situation, pending=pending), options)
    rungs = {candidate: [target] for candidate, target in candidates.items()}
    free = np.ones(len(passed), dtype=bool)
    while True:
        usable = free if left is None else free & (prices <= left)
        rates = table.sum(Board.falls) / prices
        option = best_option(rates, usable)
        if option is None or rates[option] <= rate:
            return [Move(c, tuple(sorted(rungs[c]))) for c in candidates]
        candidate, rung = passed[option]
        rungs[candidate].append(rung)
        table.take(option)
        free[option] = False
        left = None if left is None else left - float(prices[option])


def rank_weights(draws: Floats) -> Floats:
    """The weights w, from draws x pairs."""
    ranks = draws.argsort(axis=1).argsort(axis=1)
    weights = ((1.0 + ranks) ** -2).mean(axis=0)
    return np.asarray(weights / weights.sum())
