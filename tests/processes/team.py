"""Ranks of a launch as threads of one process, which exchange envelopes through a list."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING, Any

from mordal_optuna.processes.group import Envelope, Processes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta

WORLD = 3


class Team(Processes):
    """One of three ranks; all of them share a list and a barrier."""

    def __init__(self, rank: int, shared: list[Any], barrier: Barrier) -> None:
        super().__init__()
        self._rank = rank
        self._shared = shared
        self.barrier = barrier

    @property
    def rank(self) -> int:
        """The given rank."""
        return self._rank

    @property
    def world_size(self) -> int:
        """Three."""
        return WORLD

    def _swap(self, given: Envelope, timeout: timedelta | None = None) -> list[Envelope]:
        """All entries of the list, once every rank has written its own, pickled as in earnest."""
        self.barrier.wait(timeout and timeout.total_seconds())
        self._shared[self._rank] = pickle.dumps(given)
        self.barrier.wait(timeout and timeout.total_seconds())
        return [pickle.loads(entry) for entry in self._shared]


def outcomes(works: Sequence[Callable[[Team], Any]]) -> list[Any]:
    """What the function of each rank returns, or the error that it raises."""
    shared: list[Any] = [None] * WORLD
    barrier = Barrier(WORLD, timeout=10)

    def run(rank: int) -> Any:
        try:
            return works[rank](Team(rank, shared, barrier))
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - what is looked at
            return error

    with ThreadPoolExecutor(WORLD) as pool:
        return list(pool.map(run, range(WORLD)))
