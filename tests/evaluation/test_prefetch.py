"""Documents are prepared ahead, in order and with bounded memory."""

from __future__ import annotations

import threading
import time

import pytest

from mordal_optuna.evaluation.prefetch import prepared_ahead, threads


def test_results_come_in_order_and_are_computed_side_by_side() -> None:
    both = threading.Barrier(2, timeout=5)

    def prepare(item: int) -> int:
        if item < 2:
            both.wait()  # passes only if two items are prepared at the same time
        time.sleep(0.02 if item % 2 == 0 else 0)
        return item * item

    with prepared_ahead(prepare, range(9), ahead=4, workers=2) as results:
        assert list(results) == [n * n for n in range(9)]


def test_no_more_than_asked_are_held() -> None:
    begun: list[int] = []
    with prepared_ahead(begun.append, range(50), ahead=5, workers=3) as results:
        for taken, _ in enumerate(results, 1):
            assert len(begun) <= taken + 4


def test_an_error_is_raised_where_its_result_is_due_and_ends_the_rest() -> None:
    begun: list[int] = []

    def prepare(item: int) -> int:
        begun.append(item)
        if item == 2:
            raise ValueError("2 is broken")
        return item

    with prepared_ahead(prepare, range(100), ahead=4, workers=1) as results:
        assert [next(results), next(results)] == [0, 1]
        with pytest.raises(ValueError, match="2 is broken"):
            next(results)
    assert len(begun) < 10


def test_processes_share_the_cores() -> None:
    assert 1 <= threads(2) <= threads(1) <= 8
    assert threads(10_000) == 1
