"""Numbers of documents of early rungs."""

from __future__ import annotations

import numpy as np
import pytest

from mordal_optuna.errors import SearchError
from mordal_optuna.search.documents import DOCUMENT_COST, early_documents
from mordal_optuna.search.joint.effects import PRIOR, Hyperparameters

FULL = 665_000


@pytest.mark.parametrize("ratio", [1 / 32, 1 / 16, 1 / 4])
@pytest.mark.parametrize("tasks", [1, 7])
def test_no_other_number_tells_more_for_its_cost(ratio: float, tasks: int) -> None:
    prior, samples = Hyperparameters.of(PRIOR.logs), round(FULL * ratio)
    spread = sum(s**2 for s in prior.spreads) * (samples / FULL) ** (2 * prior.growth)
    numbers = np.arange(1, 20_000)
    told = spread / (spread + prior.noise**2 + prior.shared / numbers)
    best = numbers[np.argmax(told / (samples + DOCUMENT_COST * tasks * numbers))]
    assert abs(early_documents(samples, FULL, 20_000, tasks) - best) <= 1


def test_later_rungs_get_more_and_further_tasks_fewer() -> None:
    rungs = [FULL // 32, FULL // 16, FULL // 8, FULL // 4, FULL]
    numbers = [early_documents(m, FULL, 5000) for m in rungs]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == 5000
    assert all(
        early_documents(m, FULL, 5000, 7) < n for m, n in zip(rungs[:-1], numbers, strict=False)
    )


def test_small_tasks_are_scored_on_all_documents() -> None:
    assert early_documents(FULL // 16, FULL, 300) == 300
    assert early_documents(1, 2, 1) == 1


@pytest.mark.parametrize("given", [(0, 8, 4, 1), (9, 8, 4, 1), (4, 8, 0, 1), (4, 8, 4, 0)])
def test_numbers_out_of_range_are_refused(given: tuple[int, int, int, int]) -> None:
    with pytest.raises(SearchError, match="at least 1|from 1 to"):
        early_documents(*given)
