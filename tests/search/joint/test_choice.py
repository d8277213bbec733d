"""The choice of a round of jobs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from mordal_optuna.pool import Candidate
from mordal_optuna.search.curves import Measurement
from mordal_optuna.search.joint.board import Board, Options, Situation, Target
from mordal_optuna.search.joint.choice import KnowledgeGradient, VarianceChoice, rank_weights
from mordal_optuna.search.joint.job_costs import JobCosts
from mordal_optuna.search.joint.posterior import JointModel

RUNGS = (512, 1024, 2048, 4096, 8192, 16384)
POOL = [Candidate(f"v{i}", f"m{j}") for i in range(4) for j in range(4)]
CHOICES = [KnowledgeGradient, VarianceChoice]


def situation(left: float | None = None) -> Situation:
    """The diagonal and one more of each row are scored at 1/8; v0 and m0 are good."""
    scores = []
    for i in range(4):
        for j in (i, (i + 1) % 4):
            error = 0.5 - 0.1 * (i == 0) - 0.1 * (j == 0)
            m = Measurement(2048, 1 - error, 0.03, 300, 2048 * 0.01, 1.0)
            scores.append((Candidate(f"v{i}", f"m{j}"), m))
    known = {c: {"": (m,)} for c, m in scores}
    return Situation(
        targets=(Target(JointModel(scores, POOL, RUNGS[-1]), 300),),
        tops={c: m.samples for c, m in scores},
        excluded=frozenset(),
        rungs=RUNGS,
        first=RUNGS[2:4],
        costs=JobCosts.learned(known, RUNGS[-1]),
        left=left,
    )


@pytest.mark.parametrize("choice", CHOICES)
def test_a_round_has_different_pairs_on_higher_rungs(choice: type) -> None:
    given = situation()
    moves = choice()(given, 4)
    assert len({move.candidate for move in moves}) == len(moves) == 4
    assert all(move.rungs[-1] > given.tops.get(move.candidate, 0) for move in moves)


@pytest.mark.parametrize("choice", CHOICES)
def test_promising_pairs_come_first(choice: type) -> None:
    first = choice()(situation(), 1)[0].candidate
    assert "v0" in first or "m0" in first


@pytest.mark.parametrize("choice", CHOICES)
def test_a_round_fits_into_what_is_left(choice: type) -> None:
    whole = situation()
    left = 30.0
    moves = choice()(replace(whole, left=left), 8)
    assert moves
    costs = whole.costs
    steps = [(m.candidate, m.rungs[-1] - whole.tops.get(m.candidate, 0)) for m in moves]
    assert sum(costs.train(c, step) + costs.evaluate(c) for c, step in steps) <= left
    assert choice()(replace(whole, left=1.0), 8) == []


@pytest.mark.parametrize("choice", CHOICES)
def test_excluded_pairs_and_scores_that_are_coming_are_not_asked_for(choice: type) -> None:
    given = situation()
    best = choice()(given, 1)[0]
    assert choice()(replace(given, excluded=frozenset({best.candidate})), 1)[0] != best
    asked = {**given.tops, best.candidate: best.rungs[-1]}
    (target,) = given.targets
    pending = replace(target, pending=((best.candidate, best.rungs[-1]),))
    coming = replace(given, tops=asked, targets=(pending,))
    assert choice()(coming, 1)[0] != best


def test_the_knowledge_gradient_is_the_expected_gain_of_the_lowest_mean() -> None:
    """Against Monte Carlo, for one option at a time."""
    given = situation()
    board = Board(given, given.targets[0], Options.of(given))
    board.mean = np.full(board.count, -0.8)  # no pair leads, so that gains are not tiny
    n, rng = board.count, np.random.default_rng(0)
    values = KnowledgeGradient().values(board, np.full(n, 1 / n))
    option = int(values.argmax())
    column = board.covariance[:n, n + option]
    total = board.covariance[n + option, n + option] + board.noise[option]
    moved = board.mean[:, None] + np.outer(column / total**0.5, rng.standard_normal(20000))
    expected = board.mean.min() - moved.min(axis=0).mean()
    assert values[option] == pytest.approx(expected, rel=0.1)


def exact_gain(values: np.ndarray, shifts: np.ndarray) -> float:
    """E max_p (a_p + b_p Z) - max_p a_p, exactly.

    The maximum of lines is a convex, piecewise linear function of Z. Its expected value above the
    largest a is the sum over its corners z of the change of slope times phi(z) - |z| Phi(-|z|).

    Args:
        values: a, one entry per pair, at least one.
        shifts: b, one entry per pair.
    """
    order = np.lexsort((values, shifts))
    lines: list[int] = []
    corners: list[float] = []
    for line in order.tolist():
        if lines and shifts[lines[-1]] == shifts[line]:  # parallel: the higher line comes last
            lines.pop()
            if lines:
                corners.pop()
        while lines:
            top = lines[-1]
            corner = (values[top] - values[line]) / (shifts[line] - shifts[top])
            if not corners or corner > corners[-1]:
                corners.append(float(corner))
                break
            lines.pop()
            corners.pop()
        lines.append(line)
    changes = np.diff(shifts[lines])
    z = np.abs(np.array(corners))
    return float((changes * (norm.pdf(z) - z * norm.sf(z))).sum())


@pytest.mark.parametrize("seed", range(3))
def test_the_exact_gain_is_that_of_draws(seed: int) -> None:
    """What the next test compares with."""
    rng = np.random.default_rng(seed)
    values, shifts = rng.normal(size=(2, 7))
    shifts[1] = shifts[0]  # parallel lines
    z = rng.standard_normal(200_000)
    drawn = (values[:, None] + shifts[:, None] * z).max(axis=0)
    found = exact_gain(values, shifts)
    assert found == pytest.approx(drawn.mean() - values.max(), abs=5 * drawn.std() / 200_000**0.5)
    assert exact_gain(np.array([0.0, -1.0]), np.array([0.3, 0.3])) == 0


@pytest.mark.parametrize("spread", [0.3, 0.03])
def test_the_integral_by_points_orders_scores_as_the_exact_one(spread: float) -> None:
    """Where one pair leads and where many are close, within what a score can move."""
    given = situation()
    board = Board(given, given.targets[0], Options.of(given))
    centre = board.mean.mean()
    board.mean = centre + spread * (board.mean - centre)
    n = board.count
    moves = board.covariance[:n, n:] / np.sqrt(board.covariance.diagonal()[n:] + board.noise)
    exact = np.array([exact_gain(-board.mean, column) for column in moves.T])
    found = KnowledgeGradient().values(board, np.full(n, 1 / n))
    high = exact > 0.2 * exact.max()
    assert found[high] == pytest.approx(exact[high], rel=0.05)
    per_cost = exact / board.options.prices
    assert per_cost[(found / board.options.prices).argmax()] > 0.95 * per_cost.max()


def test_weights_favour_low_errors() -> None:
    draws = np.array([[0.0, 1.0, 2.0], [0.0, 2.0, 1.0]])
    weights = rank_weights(draws)
    assert weights.sum() == pytest.approx(1.0)
    assert weights[0] > weights[1] == weights[2]


def test_a_task_counts_by_its_weight() -> None:
    """The second task prefers the pairs of m3."""
    given = situation()
    scores = []
    for n, candidate in enumerate(given.tops):
        error = (0.2 if candidate.llm == "m3" else 0.5) + 0.003 * n
        scores.append((candidate, Measurement(2048, 1 - error, 0.03, 300, 20.0, 1.0)))
    second = JointModel(scores, POOL, RUNGS[-1])

    def first(*targets: Target) -> tuple[Candidate, int]:
        move = KnowledgeGradient()(replace(given, targets=targets), 1)[0]
        return move.candidate, move.rungs[-1]

    (one,), other = given.targets, Target(second, 300)
    assert first(one) != first(other)
    assert first(one, replace(other, weight=1e-6)) == first(one)
    assert first(one, replace(other, weight=1e6)) == first(other)


def two_tasks(evaluation: float) -> Situation:
    """A second task, on which v0 has no scores; each score costs `evaluation` seconds."""
    given = situation()
    (first,) = given.targets
    scored = frozenset((c, n) for c, n in given.tops.items())
    lacking = frozenset((c, n) for c, n in scored if c.vision_encoder != "v0")
    row = (Measurement(2048, 0.5, 0.03, 300, 20.0, evaluation),)
    rows = [(c, Measurement(2048, 0.5, 0.03, 300, 20.0, evaluation)) for c, _ in sorted(lacking)]
    second = JointModel(rows, POOL, RUNGS[-1])
    return replace(
        given,
        targets=(
            replace(first, name="a", scored=scored),
            Target(second, 300, "b", scored=lacking),
        ),
        costs=JobCosts.learned({c: {"a": row, "b": row} for c in given.tops}, RUNGS[-1]),
        partly=True,
    )


def test_a_pair_may_be_scored_on_a_further_task_at_its_newest_rung_alone() -> None:
    """It is not trained for it, and not scored again on the task that has a score."""
    given = two_tasks(0.1)
    options = Options.of(given)
    later = [n for n, (pair, rung) in enumerate(options.scores) if not options.training[n]]
    assert {options.candidates[options.scores[n][0]].vision_encoder for n in later} == {"v0"}
    assert all(options.missing[:, n].tolist() == [False, True] for n in later)
    moves = [m for m in VarianceChoice()(given, 4) if given.tops.get(m.candidate) == m.rungs[-1]]
    assert moves
    assert all(move.tasks[-1] == ("b",) for move in moves)
    whole = Options.of(replace(given, partly=False))
    assert (whole.training > 0).all()


@pytest.mark.parametrize("choice", CHOICES)
def test_a_task_that_teaches_little_for_its_cost_is_left_out(choice: type) -> None:
    """On task b a score has the noise of one document."""
    given = two_tasks(50.0)
    first, second = given.targets
    noisy = replace(second, documents=1, scored=first.scored)
    moves = choice()(replace(given, targets=(first, noisy)), 4)
    assert {task for move in moves for tasks in move.tasks for task in tasks} == {"a"}
    both = choice()(replace(given, targets=(first, noisy), partly=False), 4)
    assert all(tasks == ("a", "b") for move in both for tasks in move.tasks)


def test_rungs_that_are_passed_are_scored_where_that_pays() -> None:
    """Where a score costs next to nothing, and not where it costs as much as the training."""

    def scored(evaluation: float) -> int:
        given = situation()
        row = (Measurement(2048, 0.5, 0.03, 300, 20.0, evaluation),)
        known = {c: {"": row} for c in given.tops}
        costs = JobCosts.learned(known, RUNGS[-1])
        far = replace(given, costs=costs, tops={}, first=(8192,))
        return sum(len(move.rungs) > 1 for move in VarianceChoice()(far, 6))

    assert scored(0.001) > 0
    assert scored(40.0) == 0
