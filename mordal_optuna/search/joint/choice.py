"""The choice of a round of jobs from the joint model of each task.

The knowledge gradient of a score is the expected fall of the lowest posterior mean by it (Frazier,
Powell and Dayanik 2009). It is 0 for scores that cannot change the winner, so the fall of the
weighted variance orders these. With several tasks, the values of a score on all tasks are added,
in points of each task's leader and by the tasks' weights: one training serves all of them.

A rung may be scored on some of the tasks: those with which f per cost of the job is highest. The
knowledge gradient would leave out every task on which the pair cannot win, and with it what its
score says about other pairs.

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

from mordal_optuna.search.joint.board import Board, Move, Options, best_option, rounded
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
# Least cost that a value is divided by, where costs are not known.
_LEAST = 1e-9


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
        free = np.asarray(options.missing.any(axis=0))
        pairs = np.array([index for index, _ in options.scores])
        while len(moves) < size:
            worth, falls = table.each(self.values), table.each(Board.falls)
            asked = table.useful(falls) if situation.partly else options.missing
            prices = options.training + np.where(asked, options.scoring, 0.0).sum(axis=0)
            prices = np.maximum(prices, _LEAST)
            usable = free if left is None else free & np.asarray(prices <= left)
            values = np.where(asked, worth, 0.0).sum(axis=0)
            option = best_option(values / prices, usable)
            if option is None:
                break
            index, rung = options.scores[option]
            chosen = asked[:, option]
            moves.append(Move(options.candidates[index], (rung,), (table.names(chosen),)))
            rates.append(float(falls[chosen, option].sum() / prices[option]))
            table.take(option, chosen)
            free &= pairs != index
            left = None if left is None else left - float(prices[option])
        return _with_further(situation, options.candidates, moves, min(rates, default=0.0), left)


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
        self._names = situation.tasks
        self._options = options
        self._weights = []
        for board in self._boards:
            n = board.count
            draws = posterior_draws(board.mean, board.covariance[:n, :n])[:_WEIGHED]
            self._weights.append(rank_weights(draws))

    def each(self, values: Callable[[Board, Floats], Floats]) -> Floats:
        """Values of the options on each task in points of its leader, tasks x options."""
        return np.array(
            [
                share * np.exp(board.mean.min()) * values(board, weights)
                for board, share, weights in zip(
                    self._boards, self._shares, self._weights, strict=True
                )
            ]
        )

    def useful(self, values: Floats) -> np.ndarray:
        """The tasks with which each option is worth most for its cost, tasks x options.

        The ratio of the summed values to the cost of the training and of scoring is highest with
        all tasks of which the value per cost of scoring is above that ratio.

        Args:
            values: value of each option on each task, tasks x options.
        """
        options = self._options
        worth = np.where(options.missing, values, 0.0)
        rates = np.where(options.missing, worth / np.maximum(options.scoring, _LEAST), -1.0)
        order = np.argsort(-rounded(rates), axis=0, kind="stable")
        gains = np.take_along_axis(worth, order, axis=0).cumsum(axis=0)
        scoring = np.where(options.missing, options.scoring, 0.0)
        costs = options.training + np.take_along_axis(scoring, order, axis=0).cumsum(axis=0)
        best = rounded(gains / np.maximum(costs, _LEAST)).argmax(axis=0)
        places = np.empty_like(order)
        np.put_along_axis(places, order, np.arange(len(order))[:, None], axis=0)
        return options.missing & (places <= best)

    def names(self, chosen: np.ndarray) -> tuple[str, ...]:
        """Names of chosen tasks."""
        return tuple(name for name, one in zip(self._names, chosen, strict=True) if one)

    def take(self, option: int, chosen: np.ndarray) -> None:
        """Count the score of an option on some tasks as known."""
        for board, one in zip(self._boards, chosen, strict=True):
            if one:
                board.take(option)


def _with_further(
    situation: Situation,
    considered: tuple[Candidate, ...],
    moves: Sequence[Move],
    rate: float,
    left: float | None,
) -> list[Move]:
    """The moves, with further scores of their pairs where these pay.

    These are scores at rungs that are only passed, on all tasks or on those that pay; and at the
    moves' own rungs on the tasks that were not chosen.

    Args:
        situation: the situation before the moves.
        considered: the considered pairs.
        moves: the chosen moves, each scored at its last rung.
        rate: f per cost of the least valuable move; a further score must give more.
        left: cost that is left; None for no limit.
    """
    further = [
        (move.candidate, rung)
        for move in moves
        for rung in situation.rungs
        if situation.tops.get(move.candidate, 0) < rung <= move.rungs[-1]
        and (situation.partly or rung < move.rungs[-1])
    ]
    if not further:
        return list(moves)
    asked = {(m.candidate, m.rungs[-1]): m.tasks[0] for m in moves}
    targets = tuple(
        replace(
            target,
            pending=(*target.pending, *new),
            scored=target.scored | set(new),
        )
        for target in situation.targets
        for new in ([place for place, tasks in asked.items() if target.name in tasks],)
    )
    situation = replace(situation, targets=targets)
    numbers = {candidate: n for n, candidate in enumerate(considered)}
    places = tuple((numbers[c], rung) for c, rung in further)
    options = Options.at(situation, considered, places, trained=True)
    table = _Tables(situation, options)
    free = options.missing.copy()
    if not situation.partly:
        free = np.asarray(free.any(axis=0))[None]
    chosen = np.zeros_like(options.missing)
    while True:
        worth, prices = table.each(Board.falls), np.maximum(options.scoring, _LEAST)
        if not situation.partly:
            worth, prices = worth.sum(axis=0)[None], prices.sum(axis=0)[None]
        rates = worth / prices
        usable = free if left is None else free & np.asarray(prices <= left)
        place = best_option(rates.ravel(), usable.ravel())
        if place is None or rates.ravel()[place] <= rate:
            break
        row, option = np.unravel_index(place, rates.shape)
        taken = np.ones(len(chosen), dtype=bool)
        if situation.partly:
            taken = np.arange(len(chosen)) == row
        chosen[taken, option] = True
        table.take(int(option), taken)
        free[row, option] = False
        left = None if left is None else left - float(prices[row, option])
    return [_extended(move, further, chosen, situation.tasks) for move in moves]


def _extended(
    move: Move,
    further: Sequence[tuple[Candidate, int]],
    chosen: np.ndarray,
    tasks: Sequence[str],
) -> Move:
    """A move with the chosen further scores of its pair."""
    asked = {move.rungs[-1]: set(move.tasks[0])}
    for (candidate, rung), column in zip(further, chosen.T, strict=True):
        if candidate == move.candidate and column.any():
            new = {task for task, one in zip(tasks, column, strict=True) if one}
            asked[rung] = asked.get(rung, set()) | new
    rungs = tuple(sorted(asked))
    return Move(
        move.candidate, rungs, tuple(tuple(t for t in tasks if t in asked[r]) for r in rungs)
    )


def rank_weights(draws: Floats) -> Floats:
    """The weights w, from draws x pairs."""
    ranks = draws.argsort(axis=1).argsort(axis=1)
    weights = ((1.0 + ranks) ** -2).mean(axis=0)
    return np.asarray(weights / weights.sum())
