"""Regret of searches by budget, for the table that `mordal plan` shows.

    OMP_NUM_THREADS=1 uv run python -m benchmarks.plan_regret.run

Replays `mordal` and `joint` with budgets of 1 to 32 full runs on drawn pools of several sizes
(`replay/synthetic.py`) and on the seven grid files of the minigrid, one seed each, and writes
`mordal_optuna/planning/regret.json`. `regret` is the true score of the best pair less that of the
winner, in points; `half` is half the width of the 95 % interval over pools; `best` is the share of
pools in which a pair with the best score won.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from mordal_optuna.replay.grid import Grid, read_grid
from mordal_optuna.replay.light import run_light
from mordal_optuna.replay.metrics import interval_of_mean
from mordal_optuna.replay.run import method_settings, set_up
from mordal_optuna.replay.synthetic import synthetic_grid

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "mordal_optuna" / "planning" / "regret.json"
GRIDS = ROOT / "benchmarks" / "minigrid" / "grids"
TASKS = ("gqa", "vizwiz_vqa_val", "chartqa", "docvqa_val", "scienceqa_img", "ai2d", "mmmu_val")
METHODS = ("mordal", "joint")
BUDGETS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
SIZES = ((2, 2), (3, 4), (4, 4), (5, 6), (7, 7))
SEEDS = 1
COMMAND = "python -m benchmarks.plan_regret.run"


def regret(grid: Grid, method: str, seed: int, budget: float) -> float:
    """True score of the best pair less that of a search's winner, in points.

    Args:
        grid: grid with the true scores.
        method: search method.
        seed: random seed of the method.
        budget: budget in full runs.
    """
    setup = set_up(grid, method, method_settings(method), seed, budget)
    history = run_light(setup.plan, grid).history
    winner = setup.plan.winner(history) or setup.plan.ranking(history)[0].candidate
    truth = {candidate: grid.truth(candidate) for candidate in grid.candidates}
    return 100 * (max(truth.values()) - truth[winner])


def row(grids: list[Grid], method: str, budget: float, seeds: int) -> dict[str, float]:
    """Mean regret over grids, each a mean over seeds.

    Args:
        grids: grids of one size.
        method: search method.
        budget: budget in full runs.
        seeds: number of random seeds of the method on each grid.
    """
    lost = [[regret(grid, method, seed, budget) for seed in range(seeds)] for grid in grids]
    means = [sum(values) / len(values) for values in lost]
    mean, half = interval_of_mean(means)
    flat = [value for values in lost for value in values]
    found = sum(value == 0 for value in flat) / len(flat)
    return {"regret": round(mean, 2), "half": round(half, 2), "best": round(found, 2)}


def table(pools: int) -> dict[str, object]:
    """The whole table.

    Args:
        pools: number of drawn pools of each size.
    """
    drawn: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for encoders, llms in SIZES:
        grids = [synthetic_grid(seed, encoders=encoders, llms=llms) for seed in range(pools)]
        drawn[f"{encoders} x {llms}"] = {
            method: {
                str(budget): row(grids, method, budget, 1)
                for budget in BUDGETS
                if budget < encoders * llms
            }
            for method in METHODS
        }
        print(f"{encoders} x {llms}", flush=True)
    real = [read_grid(GRIDS / f"{task}.json") for task in TASKS]
    minigrid = {
        method: {str(budget): row(real, method, budget, SEEDS) for budget in BUDGETS}
        for method in METHODS
    }
    return {"command": COMMAND, "pools": pools, "drawn": drawn, "minigrid": minigrid}


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pools", type=int, default=20)
    chosen = parser.parse_args()
    TABLE.write_text(json.dumps(table(chosen.pools), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
