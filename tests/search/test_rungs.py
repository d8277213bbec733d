"""Rungs are integer multiples, none lost to rounding."""

from __future__ import annotations

import pytest

from mordal_optuna.errors import SearchError
from mordal_optuna.search.rungs import build_rungs


def test_no_rung_is_lost_to_rounding() -> None:
    """For 1, 243 and 3, floor(log(243) / log(3)) is 4 in floating point; there are 6 rungs."""
    rungs = build_rungs(243, first_ratio=1 / 243, max_ratio=1.0, eta=3)
    assert rungs == (1, 3, 9, 27, 81, 243)


def test_thousand_by_ten() -> None:
    assert build_rungs(1000, first_ratio=0.001, max_ratio=1.0, eta=10) == (1, 10, 100, 1000)


def test_the_papers_ratios_give_three_rungs() -> None:
    """R = 1/8 and b = .03 with eta 2: 1/32, 1/16 and 1/8 of the data."""
    rungs = build_rungs(665_600, first_ratio=0.03, max_ratio=0.125, eta=2, multiple=128)
    assert rungs == (20_736, 41_600, 83_200)


def test_every_rung_is_a_whole_number_of_batches() -> None:
    rungs = build_rungs(4096, first_ratio=0.05, max_ratio=0.5, eta=2, multiple=48)
    assert all(rung % 48 == 0 for rung in rungs)
    assert list(rungs) == sorted(set(rungs))


def test_ratios_that_hold_no_batch_are_refused() -> None:
    with pytest.raises(SearchError, match="no rung fits between 0.03 and 0.125 of 100 samples"):
        build_rungs(100, first_ratio=0.03, max_ratio=0.125, eta=2, multiple=64)
