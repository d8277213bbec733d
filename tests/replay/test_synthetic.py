"""Synthetic grids: reproducible, of the size asked for, and as their docstring describes them."""

from __future__ import annotations

import numpy as np
import pytest

from mordal_optuna.errors import SearchError
from mordal_optuna.replay.synthetic import CHANCE, RATIOS, synthetic_grid


def test_a_seed_gives_one_grid_and_another_seed_another() -> None:
    first = synthetic_grid(1, encoders=3, llms=2)
    assert synthetic_grid(1, encoders=3, llms=2) == first
    assert synthetic_grid(2, encoders=3, llms=2).curves != first.curves


def test_a_grid_has_the_size_asked_for() -> None:
    grid = synthetic_grid(0, encoders=3, llms=2, full_samples=64, documents=50)
    assert (len(grid.encoders), len(grid.llms), len(grid.candidates)) == (3, 2, 6)
    assert (grid.full_samples, grid.test_documents) == (64, 50)
    for candidate in grid.candidates:
        assert [m.samples for m in grid.measurements(candidate)] == [64 // r for r in RATIOS]


def test_scores_are_shares_of_the_documents_and_errors_do_not_exceed_chance() -> None:
    grid = synthetic_grid(0, documents=50)
    scores = np.array([curve.score for curve in grid.curves])
    assert np.allclose(scores * 50, np.round(scores * 50))
    assert scores[:, 0].mean() >= 1 - CHANCE
    assert scores[:, -1].mean() > scores[:, 0].mean() + 0.1


def test_models_of_a_family_are_similar() -> None:
    """CKA is about .85 inside a family and .45 between families, so families are disjoint."""
    matrix = np.array(synthetic_grid(0).vision_similarity)
    assert np.array_equal(matrix, matrix.T)
    assert np.all(np.diag(matrix) == 1.0)
    same = matrix > 0.65
    assert len({tuple(row) for row in same}) == 3
    assert np.array_equal(same @ same, same)
    between = matrix[~same]
    assert np.all(np.abs(between - 0.45) < 0.2)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"encoders": 0}, "encoders: got 0; it must be at least 1"),
        ({"llms": 0}, "llms: got 0; it must be at least 1"),
        ({"documents": 0}, "documents: got 0; it must be at least 1"),
        ({"full_samples": 48}, "full_samples: got 48; it must be a positive multiple of 32"),
        ({"full_samples": 0}, "full_samples: got 0; it must be a positive multiple of 32"),
    ],
)
def test_sizes_out_of_bounds_are_refused(change: dict[str, int], sentence: str) -> None:
    with pytest.raises(SearchError, match=sentence):
        synthetic_grid(0, **change)
