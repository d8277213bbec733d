"""Every method on synthetic grids: cost, regret, weighted tau, and the quality of the answer.

    OMP_NUM_THREADS=1 uv run python -m benchmarks.replay.run --seeds 100 --processes 2

Results of each seed are stored in a file, so that an interrupted run can be continued. Each seed
gives another grid (see `mordal_optuna.replay.synthetic`) and seeds the methods' random choices.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import optuna
from rich.console import Console

from benchmarks.machine import machine
from mordal_optuna.replay.compare import ANSWER_COLUMNS, COLUMNS, Comparison, print_comparison
from mordal_optuna.replay.metrics import interval_of_mean
from mordal_optuna.replay.run import METHODS, replay
from mordal_optuna.replay.synthetic import synthetic_grid

HERE = Path(__file__).parent
# Budgets of the rows of `joint`, in full runs; and the method of each row of the table.
JOINT_BUDGETS = {"joint": 4.0, "joint-3": 3.0}
ROWS = {method: method for method in METHODS} | dict.fromkeys(JOINT_BUDGETS, "joint")


def figures(seed: int) -> dict[str, dict[str, float]]:
    """All figures of all methods on one grid; the budget, if needed, is the cost of `mordal`."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    grid = synthetic_grid(seed)
    budget = replay(grid, "mordal", seed=seed).full_runs
    by_method = {}
    for name, method in ROWS.items():
        needs_budget = method == "random" or method.startswith("optuna")
        limit = JOINT_BUDGETS.get(name, budget if needs_budget else None)
        run = replay(grid, method, seed=seed, budget=limit)
        columns = (*COLUMNS, *ANSWER_COLUMNS)
        values = {column.key: column.value(run) for column in columns}
        by_method[name] = {key: float(v) for key, v in values.items() if v is not None}
        # Share of 95 % intervals that contain the truth, by kind of estimate.
        inside = [e.low <= grid.truth(e.candidate) <= e.high for e in run.ranking]
        by_kind = {
            kind: [i for i, e in zip(inside, run.ranking, strict=True) if e.provenance == kind]
            for kind in ("extrapolated", "inferred")
        }
        by_method[name] |= {f"covered_{k}": sum(v) / len(v) for k, v in by_kind.items() if v}
    return by_method


def main() -> None:
    """Run missing seeds, then print and write the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--processes", type=int, default=2)
    chosen = parser.parse_args()
    path = HERE / "seeds.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    done = {int(seed): values for seed, values in map(json.loads, lines)}
    missing = [seed for seed in range(chosen.seeds) if seed not in done]
    with ProcessPoolExecutor(chosen.processes) as pool, path.open("a", encoding="utf-8") as out:
        for seed, values in zip(missing, pool.map(figures, missing), strict=True):
            done[seed] = values
            print(json.dumps([seed, values]), file=out, flush=True)
    write(done, chosen.seeds)


def write(done: dict[int, dict[str, dict[str, float]]], seeds: int) -> None:
    """Write `results.json` and the table.

    Args:
        done: figures by seed and method.
        seeds: number of seeds to include.
    """
    rows, results = [], {}
    for method in ROWS:
        keys = sorted({key for seed in range(seeds) for key in done[seed][method]})
        means = {
            key: interval_of_mean(
                [done[s][method][key] for s in range(seeds) if key in done[s][method]]
            )
            for key in keys
        }
        results[method] = {key: [round(v, 5) for v in pair] for key, pair in means.items()}
        rows.append(Comparison(method, dict(means), seeds))
    report = {"seeds": seeds, "machine": machine("optuna", "scipy"), "methods": results}
    (HERE / "results.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    with (HERE / "table.txt").open("w", encoding="utf-8") as file:
        for console in (Console(width=150), Console(file=file, width=150)):
            print_comparison(rows, console, title=f"{seeds} synthetic grids, 95 % over grids")


if __name__ == "__main__":
    main()
