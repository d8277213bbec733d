"""Another choice of jobs: what it values, and that it stays within its round and its budget."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pytest

from benchmarks.rivals_search.joint_choices import TopTwoChoice, one_of_two, own_fall
from mordal_optuna.replay.synthetic import synthetic_grid
from mordal_optuna.search.joint.board import Board, Options, Situation, Target
from mordal_optuna.search.joint.design import balanced_start
from mordal_optuna.search.joint.job_costs import JobCosts
from mordal_optuna.search.joint.posterior import JointModel, posterior_draws

if TYPE_CHECKING:
    from mordal_optuna.pool import Candidate
    from mordal_optuna.replay.grid import Grid
    from mordal_optuna.search.curves import Measurement


@cache
def known() -> tuple[Grid, dict[Candidate, tuple[Measurement, ...]], JointModel]:
    """A grid, the scores of a start of two pairs a model at 1/8, and the model of them."""
    grid = synthetic_grid(0)
    start = balanced_start(grid.encoders, grid.llms, 2)
    scores = {c: (grid.measurement(c, grid.full_samples // 8),) for c in start}
    rows = [(c, m) for c, own in scores.items() for m in own]
    return grid, scores, JointModel(rows, grid.candidates, grid.full_samples)


def situation(left: float | None = None, *, share: float = 1.0) -> Situation:
    """After the start; `share` is that of the pool that is open."""
    grid, scores, model = known()
    rung = grid.full_samples // 8
    count = round(share * len(grid.candidates))
    return Situation(
        targets=(Target(model, 500),),
        tops=dict.fromkeys(scores, rung),
        excluded=frozenset(grid.candidates[count:]),
        rungs=grid.curves[0].samples,
        first=(rung, 2 * rung),
        costs=JobCosts.learned({c: {"": own} for c, own in scores.items()}, grid.full_samples),
        left=left,
    )


def board_of(given: Situation) -> Board:
    return Board(given, given.targets[0], Options.of(given))


def test_top_two_keeps_the_best_pair_of_a_draw_half_of_the_time() -> None:
    """Else the best pair of another draw: so the second pair gets its share of what is left."""
    named = np.repeat([4, 2, 7], [60, 30, 10])
    rng = np.random.default_rng(0)
    counts = np.bincount([one_of_two(named, rng) for _ in range(4000)], minlength=8) / 4000
    chance = {4: 0.6, 2: 0.3, 7: 0.1}
    for pair, p in chance.items():
        others = sum(q * p / (1 - q) for other, q in chance.items() if other != pair)
        assert counts[pair] == pytest.approx(0.5 * p + 0.5 * others, abs=0.03)
    assert one_of_two(np.array([3, 3]), rng) == 3


def test_top_two_trains_pairs_that_draws_name_the_best() -> None:
    given = situation()
    board, n = board_of(given), len(given.targets[0].model.candidates)
    named = posterior_draws(board.mean, board.covariance[:n, :n]).argmin(axis=1)
    moves = TopTwoChoice()(given, 6)
    assert {board.options.candidates.index(move.candidate) for move in moves} <= set(
        named.tolist()
    )


def test_top_two_goes_to_the_rung_that_tells_most_of_the_pair_per_cost() -> None:
    given = situation()
    board = board_of(given)
    value = own_fall(board) / board.options.prices
    for seed in range(5):
        (move,) = TopTwoChoice(seed=seed)(given, 1)
        own = {
            rung: value[number]
            for number, (pair, rung) in enumerate(board.options.scores)
            if board.options.candidates[pair] == move.candidate
        }
        assert move.rungs == (max(own, key=lambda rung: own[rung]),)


def test_a_round_has_a_pair_once_and_stays_within_what_is_left() -> None:
    choice = TopTwoChoice()
    moves = choice(situation(), 6)
    assert len({move.candidate for move in moves}) == len(moves) == 6
    cheapest = float(board_of(situation()).options.prices.min())
    given = situation(left=6 * cheapest)
    board = board_of(given)
    price = {
        (board.options.candidates[pair], rung): cost
        for (pair, rung), cost in zip(board.options.scores, board.options.prices, strict=True)
    }
    moves = choice(given, 8)
    assert sum(price[move.candidate, move.rungs[-1]] for move in moves) <= 6 * cheapest
    assert choice(situation(left=0.5 * cheapest), 8) == []
    assert choice(situation(share=0.0), 8) == []


def test_a_round_is_a_function_of_what_is_known() -> None:
    assert TopTwoChoice(seed=1)(situation(), 6) == TopTwoChoice(seed=1)(situation(), 6)
    assert len({tuple(TopTwoChoice(seed=s)(situation(), 6)) for s in range(4)}) > 1
