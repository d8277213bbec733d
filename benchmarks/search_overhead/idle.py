"""Idle share of several workers in a search by `joint`, on the simulated clock.

    OMP_NUM_THREADS=1 uv run python -m benchmarks.search_overhead.idle

Each row is the mean over synthetic grids that are searched up to a budget. The command writes the
table to `idle.md` after each row, keeps the rows that are there if they have as many grids, and
takes some 20 minutes; remove the file to measure anew.

Symbols:
    W      number of workers
    work   device-seconds of training and scoring
    E      seconds from the start of the first trial to the end of the last one
    idle   1 - work / (W E)
    c      device-seconds of the pair that got most of them; one pair is trained by one worker at
           a time, so that no order of the same jobs ends before max(c, work / W)
    least  1 - work / (W max(c, work / W)), the idle share of the same jobs in the best order
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import optuna

from benchmarks.minigrid.tables.markdown import number, table
from mordal_optuna.replay.run import method_settings, replay
from mordal_optuna.replay.synthetic import synthetic_grid

WORKERS = 8
# Models per side, and budget in full runs.
SEARCHES = ((7, 4.0), (7, 8.0), (7, 16.0), (16, 8.0), (16, 16.0))
# Jobs of a round, and latest rounds that a round does not wait for.
ROUNDS = ((4, 1), (8, 1), (8, 2), (16, 1), (16, 2))


@dataclass(frozen=True)
class Figures:
    """Figures of one search.

    Attributes:
        idle: see the module.
        least: see the module.
        tau: weighted Kendall's tau of the ranking.
        regret: score of the best pair less that of the winner, 0 to 1.
        full_runs: cost in full runs, warm-up and features included.
    """

    idle: float
    least: float
    tau: float
    regret: float
    full_runs: float


def search(side: int, budget: float, size: int, lag: int, seed: int) -> Figures:
    """Replay one search by `joint`, without an early end.

    Args:
        side: number of encoders, and of LLMs.
        budget: limit in full runs, above 0.
        size: jobs of a round.
        lag: latest rounds that a round does not wait for.
        seed: random seed of the grid and the search.
    """
    settings = method_settings("joint")
    stop = settings.stop.model_copy(update={"expected_regret": None})
    changed = {"round_size": size, "round_lag": lag, "stop": stop}
    found = replay(
        synthetic_grid(seed, encoders=side, llms=side),
        "joint",
        settings=settings.model_copy(update=changed),
        seed=seed,
        budget=budget,
        workers=WORKERS,
    )
    work = found.cost.training + found.cost.evaluation
    longest = max(max(e.seconds for e in found.ranking), work / WORKERS)
    assert found.full_runs is not None
    return Figures(
        idle=1 - work / (WORKERS * found.elapsed_seconds),
        least=1 - work / (WORKERS * longest),
        tau=found.tau_random_ties,
        regret=found.regret,
        full_runs=found.full_runs,
    )


def main() -> None:
    """Replay all searches and write the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--grids", type=int, default=10)
    grids = parser.parse_args().grids
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path, title = Path(__file__).parent / "idle.md", f"{WORKERS} workers, {grids} grids a row."
    rows = kept(path, title)
    known = {tuple(row[:4]) for row in rows}
    for (side, budget), (size, lag) in product(SEARCHES, ROUNDS):
        key = (f"{side} x {side}", f"{budget:g}", str(size), str(lag))
        if key in known:
            continue
        found = [search(side, budget, size, lag, seed) for seed in range(grids)]
        digits = {"idle": 2, "least": 2, "tau": 3, "regret": 3, "full_runs": 1}
        means = {name: float(np.mean([getattr(f, name) for f in found])) for name in digits}
        rows.append([*key, *(number(mean, digits[name]) for name, mean in means.items())])
        print(rows[-1], flush=True)
        head = ["pool", "budget", "round_size", "round_lag", *digits]
        path.write_text(f"{title}\n\n{table(head, rows)}\n", encoding="utf-8")


def kept(path: Path, title: str) -> list[list[str]]:
    """The rows of an earlier run; none if the file is missing or has another title.

    Args:
        path: the file.
        title: its first line, with the number of grids.
    """
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    if not lines or lines[0] != title:
        return []
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[4:]]
    return [row for row in rows if len(row) > 1]


if __name__ == "__main__":
    main()
