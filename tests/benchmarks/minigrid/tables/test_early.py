"""Replicates whose early rungs are scored on fewer documents."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from benchmarks.minigrid.tables.bootstrap import Resampler
from benchmarks.minigrid.tables.early import EarlyGrid, rungs_of

if TYPE_CHECKING:
    from benchmarks.minigrid.tables.data import TaskData


def test_a_subset_has_the_first_of_the_drawn_documents(tasks: tuple[TaskData, ...]) -> None:
    """Nested, of the wanted size up to one cluster, and noisier than all documents."""
    data = tasks[0]
    resampler, largest = Resampler(data), np.bincount(data.clusters).max()
    whole, half = (resampler._documents(3, least) for least in (None, 40))
    sizes = np.bincount(data.clusters)
    assert (half <= whole).all()
    assert 40 <= half @ sizes < 40 + largest < whole @ sizes
    errors = [resampler.grid(3, least).curves[0].stderr for least in (None, 40)]
    assert all(few > many for many, few in zip(*map(np.array, errors), strict=True) if many)


def test_a_rung_with_fewer_documents_has_their_score_and_their_cost(
    tasks: tuple[TaskData, ...],
) -> None:
    resampler = Resampler(tasks[0])
    whole, few = resampler.grid(3), resampler.grid(3, 40)
    early, late = whole.curves[0].samples[0], whole.full_samples
    seen = EarlyGrid.drawn(resampler, 3, {early: 40})
    pair = whole.candidates[5]
    found = seen.measurement(pair, early)
    assert found.score == few.measurement(pair, early).score
    assert found.documents == 40
    share = 40 / whole.test_documents
    seconds = whole.measurement(pair, early).eval_seconds
    assert found.eval_seconds == pytest.approx(seconds * share)
    assert seen.measurement(pair, late) == whole.measurement(pair, late)


def test_only_rungs_with_fewer_documents_are_named(tasks: tuple[TaskData, ...]) -> None:
    grid = tasks[0].grid
    alone, together = rungs_of(grid, 1), rungs_of(grid, 50)
    assert grid.full_samples not in together
    assert set(alone) <= set(together)
    assert all(0 < n < grid.test_documents for n in together.values())
    assert list(together.values()) == sorted(together.values())
