"""Other choices of jobs: what each values, and that it stays within its round and its budget."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pytest

from benchmarks.rivals_search.joint_choices import (
    KnowledgeGradientChoice,
    TopTwoChoice,
    expected_gain,
    one_of_two,
    own_fall,
)
from mordal_optuna.replay.synthetic import synthetic_grid
from mordal_optuna.search.joint.choice import Board, Situation
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
        model=model,
        tops=dict.fromkeys(scores, rung),
        pending=[],
        excluded=frozenset(grid.candidates[count:]),
        rungs=grid.curves[0].samples,
        first=(rung, 2 * rung),
        costs=JobCosts.learned(scores, grid.full_samples),
        documents=500,
        left=left,
    )


@pytest.mark.parametrize("seed", range(6))
def test_the_expected_gain_is_that_of_draws(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values, shifts = rng.normal(size=(2, 7))
    shifts[1] = shifts[0]  # parallel lines
    z = rng.standard_normal(200_000)
    drawn = (values[:, None] + shifts[:, None] * z).max(axis=0)
    found = expected_gain(values, shifts)
    assert found == pytest.approx(drawn.mean() - values.max(), abs=5 * drawn.std() / 200_000**0.5)


def test_a_score_that_cannot_change_the_pick_gains_nothing() -> None:
    assert expected_gain(np.array([0.0, -1.0]), np.array([0.3, 0.3])) == 0
    assert expected_gain(np.array([0.0]), np.array([1.0])) == 0
    assert expected_gain(np.array([0.0, -1.0]), np.array([0.0, 0.1])) < 1e-10


def test_the_knowledge_gradient_takes_the_largest_gain_per_cost() -> None:
    """The gains by draws of the score itself: the expected fall of the lowest mean."""
    given = situation()
    board, n = Board.of(given), len(given.model.candidates)
    z = np.random.default_rng(0).standard_normal(4000)
    gains = []
    for column in range(n, n + len(board.options)):
        total = board.covariance[column, column] + board.noise[column - n]
        moved = board.mean[:, None] + board.covariance[:n, column, None] / total**0.5 * z
        gains.append(board.mean.min() - moved.min(axis=0).mean())
    worth = np.array(gains) / board.prices
    (move,) = KnowledgeGradientChoice()(given, 1)
    options = [(board.candidates[pair], rung) for pair, rung in board.options]
    chosen = options.index((move.candidate, move.rungs[-1]))
    assert worth[chosen] > 0.9 * worth.max()
    assert gains[chosen] < 0.9 * max(gains)  # here the cost matters


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
    board, n = Board.of(given), len(given.model.candidates)
    named = posterior_draws(board.mean, board.covariance[:n, :n]).argmin(axis=1)
    moves = TopTwoChoice()(given, 6)
    assert {board.candidates.index(move.candidate) for move in moves} <= set(named.tolist())


def test_top_two_goes_to_the_rung_that_tells_most_of_the_pair_per_cost() -> None:
    given = situation()
    board = Board.of(given)
    value = own_fall(board) / board.prices
    for seed in range(5):
        (move,) = TopTwoChoice(seed=seed)(given, 1)
        own = {
            rung: value[number]
            for number, (pair, rung) in enumerate(board.options)
            if board.candidates[pair] == move.candidate
        }
        assert move.rungs == (max(own, key=lambda rung: own[rung]),)


@pytest.mark.parametrize("choice", [TopTwoChoice(), KnowledgeGradientChoice()])
def test_a_round_has_a_pair_once_and_stays_within_what_is_left(
    choice: TopTwoChoice | KnowledgeGradientChoice,
) -> None:
    moves = choice(situation(), 6)
    assert len({move.candidate for move in moves}) == len(moves) == 6
    cheapest = float(Board.of(situation()).prices.min())
    given = situation(left=6 * cheapest)
    board = Board.of(given)
    price = {
        (board.candidates[pair], rung): cost
        for (pair, rung), cost in zip(board.options, board.prices, strict=True)
    }
    moves = choice(given, 8)
    assert sum(price[move.candidate, move.rungs[-1]] for move in moves) <= 6 * cheapest
    assert choice(situation(left=0.5 * cheapest), 8) == []
    assert choice(situation(share=0.0), 8) == []


def test_a_round_is_a_function_of_what_is_known() -> None:
    assert TopTwoChoice(seed=1)(situation(), 6) == TopTwoChoice(seed=1)(situation(), 6)
    assert len({tuple(TopTwoChoice(seed=s)(situation(), 6)) for s in range(4)}) > 1
