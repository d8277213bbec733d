"""The finish: how many finalists there are at each rung of the race."""

from __future__ import annotations

import pytest

from mordal_optuna.search.finish import Finish


@pytest.mark.parametrize(
    ("finish", "places"),
    [
        (Finish(), ()),
        (Finish(finalists=3), ()),
        (Finish(6, (2048, 4096)), (6, 3)),
        (Finish(5, (1024, 2048, 4096)), (5, 3, 2)),
        (Finish(5, (1024, 2048, 4096), eta=4), (5, 2, 1)),
    ],
)
def test_the_best_one_in_eta_is_promoted_rounded_up(
    finish: Finish, places: tuple[int, ...]
) -> None:
    assert finish.places() == places
