"""What a method is set up for: a grid, a budget, a seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mordal_optuna.search.budget import Budget
from mordal_optuna.search.clusters import ClusterTree

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mordal_optuna.replay.grid import Grid


@dataclass(frozen=True)
class Problem:
    """What a method is set up for.

    Attributes:
        grid: the grid that is searched.
        others: grids of other tasks of the same pool; none for synthetic grids.
        full_runs: budget in full runs, everything counted; None for no limit.
        seed: random seed.
    """

    grid: Grid
    others: Sequence[Grid]
    full_runs: float | None
    seed: int

    @property
    def budget(self) -> Budget:
        """The budget of a method that compares no models."""
        runs = self.full_runs
        return Budget(None if runs is None else runs * self.grid.full_run_seconds / 3600)

    @property
    def tree(self) -> ClusterTree:
        """The pool without clusters."""
        return ClusterTree.flat(self.grid.encoders, self.grid.llms)

    @property
    def rungs(self) -> tuple[int, ...]:
        """All rungs of the grid."""
        return self.grid.curves[0].samples
