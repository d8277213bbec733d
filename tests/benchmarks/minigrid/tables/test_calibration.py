"""Calibration: every pair is judged once, and what all pairs have in common is told apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from benchmarks.minigrid.tables.bootstrap import full_data
from benchmarks.minigrid.tables.calibration import (
    CLASSES,
    MINIGRID,
    SEARCHES,
    Judged,
    by_class,
    by_task,
    common_share,
    judged,
)

if TYPE_CHECKING:
    from benchmarks.minigrid.tables.data import TaskData


def test_a_shift_of_all_pairs_is_common_and_noise_is_not() -> None:
    rng = np.random.default_rng(0)
    noise = [rng.normal(size=49) for _ in range(200)]
    assert common_share(noise) == pytest.approx(0.0, abs=0.02)
    assert common_share([z + rng.normal() for z in noise]) == pytest.approx(0.5, abs=0.1)
    assert common_share([np.full(49, rng.normal()) for _ in noise]) == pytest.approx(1.0)


def test_every_pair_is_judged_by_the_truth_it_is_given(tasks: tuple[TaskData, ...]) -> None:
    seen = full_data(tasks[0])
    worse = dict.fromkeys(seen.truth, 0.0)
    for search in SEARCHES[1:]:
        found = judged(MINIGRID, seen.grid, seen.truth, search)
        assert len(found.z) == len(seen.grid.candidates)
        assert set(found.classes) <= set(CLASSES)
        # an interval is the posterior's, so that z says which side the truth is on
        assert found.inside.tolist() == (np.abs(found.z) <= 1.96).tolist()
        assert judged(MINIGRID, seen.grid, worse, search).z.min() > found.z.mean()


def test_tables_share_out_all_estimates() -> None:
    search = SEARCHES[0]
    z = np.array([0.0, 1.0, 3.0])
    classes = np.array(["measured", "inferred", "inferred"])
    rows = [Judged(MINIGRID, "gqa", search, classes, np.abs(z) < 1.96, z)] * 2
    text = by_class(rows)
    assert "| minigrid | joint, 3 full runs | all | 6 | 0.667 | 1.33 | 1.25 |" in text
    assert "| inferred | 4 | 0.500 | 2.00 | 1.00 |" in text
    assert "| measured | 2 | 1.000 |" in text
    assert "extrapolated" not in text
    assert "| gqa | 0.667 |" in by_task(rows)
