"""Search methods replayed on a grid of real scores: what each would have picked, at what cost.

    uv run python examples/replay_grid.py [GRID.json]

A grid file holds the scores of every pair at every rung (`mordal_optuna/replay/grid.py` describes
the format). The default is 49 tiny pairs on AI2D, trained for `benchmarks/minigrid`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import optuna

from mordal_optuna.replay.grid import read_grid
from mordal_optuna.replay.run import replay

if TYPE_CHECKING:
    from mordal_optuna.replay.judging import Replay

GRID = Path(__file__).parents[1] / "benchmarks" / "minigrid" / "grids" / "ai2d.json"
METHODS = ("mordal", "all-at-ratio", "random", "grid")


def main(path: Path = GRID) -> list[Replay]:
    """Replay each method with one random seed and print a line about it."""
    grid = read_grid(path)
    replays = [replay(grid, method, seed=0) for method in METHODS]
    print(f"{'method':14}{'picked':30}{'points lost':>12}{'full runs':>11}")
    for one in replays:
        print(
            f"{one.method:14}{' + '.join(one.picked):30}{100 * one.regret:12.1f}"
            f"{one.full_runs or 0:11.1f}"
        )
    return replays


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    main(*map(Path, sys.argv[1:]))
