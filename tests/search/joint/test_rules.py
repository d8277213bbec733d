"""Bounds of the rules of a search by the joint model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mordal_optuna.search.joint.rules import Rounds, Start, Stop

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    ("build", "told"),
    [
        (lambda: Start(pairs=0), "start_pairs: got 0"),
        (lambda: Start(ratio=1.5), "start_ratio: got 1.5"),
        (lambda: Rounds(size=0), "round_size: got 0"),
        (lambda: Rounds(lag=-1), "round_lag: got -1"),
        (lambda: Stop(2.0), "expected_regret: got 2.0"),
    ],
)
def test_bounds(build: Callable[[], object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        build()


@pytest.mark.parametrize(
    ("sides", "pairs", "ratio"),
    [((7, 7), 2, 1 / 8), ((16, 10), 2, 1 / 16), ((3, 3), 2, 1 / 8), ((100, 100), 2, 1 / 32)],
)
def test_the_start_costs_about_two_full_runs(
    sides: tuple[int, int], pairs: int, ratio: float
) -> None:
    assert Start(pairs).ratio_for(*sides) == ratio
    assert Start(pairs, 0.5).ratio_for(*sides) == 0.5
