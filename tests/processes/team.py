"""Ranks of a launch as threads of one process, which exchange objects through a list."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING, Any

from mordal_optuna.errors import MordalError
from mordal_optuna.processes.group import Processes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

WORLD = 3


class Team(Processes):
    """One of three ranks; all of them share a list and a barrier."""

    def __init__(self, rank: int, shared: list[Any], barrier: Barrier) -> None:
        super().__init__()
        self._rank = rank
        self._shared = shared
        self._barrier = barrier

    @property
    def rank(self) -> int:
        """The given rank."""
        return self._rank

    @property
    def world_size(self) -> int:
        """Three."""
        return WORLD

    def broadcast(self, value: Any) -> Any:
        """Rank 0's entry of the list."""
        return self.gather(value)[0]

    def gather(self, value: Any) -> list[Any]:
        """All entries of the list, once every rank has written its own."""
        self._barrier.wait()
        self._shared[self._rank] = value
        self._barrier.wait()
        return list(self._shared)


def outcomes(works: Sequence[Callable[[Team], Any]]) -> list[Any]:
    """What the function of each rank returns, or the error that it raises."""
    shared: list[Any] = [None] * WORLD
    barrier = Barrier(WORLD, timeout=10)

    def run(rank: int) -> Any:
        try:
            return works[rank](Team(rank, shared, barrier))
        except (MordalError, ZeroDivisionError, OSError) as error:
            return error

    with ThreadPoolExecutor(WORLD) as pool:
        return list(pool.map(run, range(WORLD)))
