"""What a budget buys: expected regret of a search on pools like the study's, from replays.

The table in `regret.json` is shipped with the package and made by `python -m
benchmarks.plan_regret.run`, which says on which pools: the minigrid's seven tasks (49 pairs of
tiny models, trained on a CPU), and drawn pools of several sizes (`replay/synthetic.py`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_TABLE = Path(__file__).with_name("regret.json")
# Methods of the table; others are not replayed with a budget.
METHODS = ("mordal", "joint")


@dataclass(frozen=True)
class Bought:
    """What a budget buys.

    Attributes:
        full_runs: the budget in full runs.
        hours: the same in device-hours of this study.
        regret: expected regret on drawn pools of the nearest size, in points.
        half: half the width of its 95 % interval over pools.
        minigrid: regret on the minigrid, in points, mean over tasks.
        best: share of drawn pools in which the best pair was found.
    """

    full_runs: float
    hours: float
    regret: float
    half: float
    minigrid: float
    best: float


@dataclass(frozen=True)
class Budgets:
    """What several budgets buy.

    Attributes:
        method: method that was replayed.
        pool: size of the drawn pools that are nearest to the study's, as "encoders x llms".
        pools: number of drawn pools.
        command: command that made the table.
        rows: by ascending budget.
    """

    method: str
    pool: str
    pools: int
    command: str
    rows: tuple[Bought, ...]


def budgets(method: str, encoders: int, llms: int, full_run_hours: float) -> Budgets | None:
    """The shipped table for a method and a pool's size; None for a method it does not have.

    Args:
        method: search method of the study.
        encoders: number of vision encoders.
        llms: number of LLMs.
        full_run_hours: device-hours of a mean full run.
    """
    name = "mordal" if method.startswith("mordal") else method
    if name not in METHODS:
        return None
    table = _table()
    pairs = encoders * llms

    def distance(pool: str) -> float:
        sides = [int(side) for side in pool.split(" x ")]
        return abs(sides[0] * sides[1] - pairs)

    pool = min(table["drawn"], key=distance)
    drawn, grid = table["drawn"][pool][name], table["minigrid"][name]
    rows = [
        Bought(
            float(budget),
            float(budget) * full_run_hours,
            row["regret"],
            row["half"],
            grid[budget]["regret"],
            row["best"],
        )
        for budget, row in drawn.items()
        if float(budget) < pairs and budget in grid
    ]
    rows.sort(key=lambda row: row.full_runs)
    return Budgets(name, pool, table["pools"], table["command"], tuple(rows))


@cache
def _table() -> Mapping[str, Any]:
    content: dict[str, Any] = json.loads(_TABLE.read_text(encoding="utf-8"))
    return content
