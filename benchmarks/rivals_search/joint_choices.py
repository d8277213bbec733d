"""Another rule for choosing the jobs of `joint`, on the same model, start, rounds and budget.

Symbols, beside those of `search.joint.choice`:
    beta    probability that top-two sampling trains the first of its two pairs
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mordal_optuna.search.joint.board import Board, Move, Options, best_option
from mordal_optuna.search.joint.posterior import posterior_draws

if TYPE_CHECKING:
    from mordal_optuna.search.joint.board import Situation
    from mordal_optuna.search.joint.effects import Floats

_BETA = 0.5
# Draws after which top-two sampling gives up finding a pair that can still be trained.
_TRIES = 1000


class TopTwoChoice:
    """Top-two Thompson sampling (Russo 2016, arXiv 1602.08448).

    A draw of all pairs from the posterior names a best pair. With probability beta that pair is
    trained, else the best pair of the first further draw that names another one. The pair goes to
    the rung that lowers the variance of its own ln error at r = 1 most per cost. All draws of a
    round come from the posterior at its beginning; a pair has one job in a round.
    """

    def __init__(self, *, seed: int = 0) -> None:
        """Create a rule.

        Args:
            seed: random seed; with the number of known scores it determines a round's draws.
        """
        self._seed = seed

    def __call__(self, situation: Situation, size: int) -> list[Move]:
        """See `search.joint.choice.Choice`."""
        (target,), options = situation.targets, Options.of(situation)
        board = Board(situation, target, options)
        n = board.count
        draws = posterior_draws(board.mean, board.covariance[:n, :n])
        named = draws.argmin(axis=1)
        rng = np.random.default_rng([self._seed, target.model.scored])
        value = own_fall(board) / options.prices
        free = np.ones(len(options.scores), dtype=bool)
        moves: list[Move] = []
        left = situation.left
        for _ in range(_TRIES):
            if len(moves) == size:
                break
            pair = one_of_two(named, rng)
            usable = free & np.array([index == pair for index, _ in options.scores], dtype=bool)
            if left is not None:
                usable &= options.prices <= left
            option = best_option(value, usable)
            if option is not None:
                moves.append(Move(options.candidates[pair], (options.scores[option][1],)))
                free &= np.array([index != pair for index, _ in options.scores], dtype=bool)
                left = None if left is None else left - float(options.prices[option])
        return moves


def one_of_two(named: np.ndarray, rng: np.random.Generator) -> int:
    """The best pair of a draw, or with probability 1 - beta the best pair of another draw."""
    first = int(named[rng.integers(len(named))])
    others = named[named != first]
    if len(others) == 0 or rng.random() < _BETA:
        return first
    return int(others[rng.integers(len(others))])


def own_fall(board: Board) -> Floats:
    """Fall of the variance of y of an option's own pair, one entry per option."""
    pairs = np.array([pair for pair, _ in board.options.scores], dtype=np.int64)
    return np.asarray(board.cross[pairs, np.arange(len(pairs))] ** 2 / board.total)
