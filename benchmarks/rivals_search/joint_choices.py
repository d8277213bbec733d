"""Another rule for choosing the jobs of `joint`, on the same model, start, rounds and budget.

Symbols, beside those of `search.joint.choice`:
    beta    probability that top-two sampling trains the first of its two pairs
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mordal_optuna.search.joint.choice import Board, Move
from mordal_optuna.search.joint.posterior import posterior_draws

if TYPE_CHECKING:
    from mordal_optuna.search.joint.choice import Situation
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
        board = Board.of(situation)
        n = board.count
        draws = posterior_draws(board.mean, board.covariance[:n, :n])
        named = draws.argmin(axis=1)
        rng = np.random.default_rng([self._seed, situation.model.scored])
        value = own_fall(board) / board.prices
        moves: list[Move] = []
        left = situation.left
        for _ in range(_TRIES):
            if len(moves) == size:
                break
            pair = one_of_two(named, rng)
            option = _best_of(board, pair, value, left)
            if option is not None:
                moves.append(Move(board.candidates[pair], (board.options[option][1],)))
                board.take(option)
                left = None if left is None else left - float(board.prices[option])
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
    n = board.count
    pairs = np.array([pair for pair, _ in board.options], dtype=np.int64)
    columns = np.arange(n, n + len(pairs))
    total = board.covariance.diagonal()[n:] + board.noise
    return np.asarray(board.covariance[pairs, columns] ** 2 / total)


def _best_of(board: Board, pair: int, value: Floats, left: float | None) -> int | None:
    """The open option of a pair with the highest value that fits into what is left."""
    options = [
        number
        for number, (index, _) in enumerate(board.options)
        if index == pair and board.open[number] and (left is None or board.prices[number] <= left)
    ]
    return max(options, key=lambda number: value[number], default=None)
