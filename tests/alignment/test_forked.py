"""Processes: results in order, errors as they are, nothing random is drawn."""

from __future__ import annotations

import os

import pytest
import torch

from mordal_optuna.alignment.forked import in_processes
from mordal_optuna.errors import DataError


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_results_have_the_order_of_the_items(processes: int) -> None:
    """Few items are done by this process, as all are where there is one."""
    here = os.getpid()
    for count in (0, 1, 9):
        items = list(range(count))
        found = list(in_processes(lambda n: (n * n, os.getpid()), items, processes))
        assert [square for square, _ in found] == [n * n for n in items]
        ours = [place == here for _, place in found]
        alone = processes == 1 or count == 1 or len(os.sched_getaffinity(0)) == 1
        assert all(ours) if alone else not any(ours)


@pytest.mark.parametrize("processes", [1, 2])
def test_an_error_is_raised_as_it_is(processes: int) -> None:
    def work(number: int) -> int:
        if number == 3:
            raise DataError("data.json", "is broken")
        return number

    done = in_processes(work, range(8), processes)
    assert [next(done) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(DataError, match=r"data 'data\.json': is broken") as caught:
        next(done)
    assert caught.value.source == "data.json"


def test_no_random_number_is_drawn() -> None:
    """Initial weights and dropout do not depend on work that was done before."""
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    assert len(list(in_processes(abs, range(8), 2))) == 8
    assert torch.equal(torch.rand(1), expected)
