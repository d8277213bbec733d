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
