"""The low-rank model finds a table that has low rank, from a part of its entries."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.rivals_search.lowrank import RANKS, Known, fit, fit_best_rank

SHAPE = (8, 7, 3)


def table(rank: int, *, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    """Effects of both parts, and an interaction of the given rank."""
    rng = np.random.default_rng(seed)
    effects = rng.normal(0, 0.2, (SHAPE[0], 1)) + rng.normal(0, 0.2, (1, SHAPE[1]))
    for _ in range(rank):
        effects = effects + rng.normal(0, 0.6, (SHAPE[0], 1)) * rng.normal(0, 0.6, (1, SHAPE[1]))
    level = -0.7 - 0.17 * np.array([-2.0, -1.0, 0.0])
    y = effects[..., None] + level
    return y + rng.normal(0, noise, y.shape)


def known(y: np.ndarray, mask: np.ndarray, noise: float = 0.02) -> Known:
    places = np.argwhere(mask)
    return Known(
        SHAPE, np.array([-2.0, -1.0, 0.0]), places, y[mask], np.full(len(places), noise**2)
    )


def part(share: float, *, ratio: int = 1) -> np.ndarray:
    """A share of all pairs, at one ratio."""
    mask = np.zeros(SHAPE, dtype=bool)
    mask[..., ratio] = np.random.default_rng(1).random(SHAPE[:2]) < share
    return mask


def test_additive_tables_are_completed_at_every_ratio() -> None:
    """From a third of the pairs at 1/2, the differences of all pairs at r = 1 follow."""
    y, mask = table(0), part(0.35)
    assert mask.any(axis=(1, 2)).all()
    assert mask.any(axis=(0, 2)).all()
    found = fit(known(y, mask), 0).predicted[..., -1]
    # The level at a ratio without scores is a guess, and ranks nothing.
    assert np.corrcoef(found.ravel(), y[..., -1].ravel())[0, 1] > 0.98


def test_the_rank_is_the_one_that_predicts_pairs_left_out() -> None:
    mask = part(0.8)
    assert fit_best_rank(known(table(0, noise=0.02), mask)).rank == 0
    assert fit_best_rank(known(table(1, noise=0.02), mask)).rank >= 1


def test_an_interaction_needs_its_rank() -> None:
    y, mask = table(1), part(0.8)
    off = [np.abs(fit(known(y, mask), k).predicted - y)[~mask[..., 1], 1].mean() for k in (0, 1)]
    assert off[1] < 0.5 * off[0]


def test_few_pairs_have_no_interaction_and_none_no_effects() -> None:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[:3, :3, 0] = True
    assert fit_best_rank(known(table(1), mask)).rank == 0
    empty = fit_best_rank(known(table(1), np.zeros(SHAPE, dtype=bool)))
    assert np.ptp(empty.predicted[..., -1]) == pytest.approx(0)


@pytest.mark.parametrize("rank", RANKS)
def test_gradients_are_those_of_the_prediction(rank: int) -> None:
    """Moving a free entry by a step moves the prediction by the step times its gradient."""
    model = fit(known(table(2), part(0.8)), rank)
    g = model.gradients(1)
    free = np.delete(np.arange(2 + rank), 1), np.delete(np.arange(2 + rank), 0)
    step = 1e-6

    def predicted(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.einsum("if,jf,f->ij", a, b, model.c[1])

    base, column = predicted(model.a, model.b), 0
    for side, entries in enumerate(free):
        for row in range(SHAPE[side]):
            for f in entries:
                moved = [model.a.copy(), model.b.copy()]
                moved[side][row, f] += step
                slope = (predicted(*moved) - base) / step
                np.testing.assert_allclose(g[..., column], slope, atol=1e-6)
                column += 1
    assert column == g.shape[-1] == len(model.prior_precision())
