"""Calibration of the final ranking of all pairs, on the minigrid and on synthetic grids.

    OMP_NUM_THREADS=1 uv run python -m benchmarks.minigrid.tables.calibration

An estimate is of the mean over random seeds, so it is compared with the truth of `bootstrap`: the
mean over a pair's runs, on the documents that the search saw. On synthetic grids the truth is the
score at r = 1, a share of 500 documents of its own. The command takes two minutes of one thread.

Symbols:
    y     ln error of the truth; at least half a document
    z     (y - posterior mean of y) / posterior standard deviation of y, for each pair
    C     share of the mean of z^2 over a search's pairs that all of them have in common: the mean
          over searches of (mean z)^2 - (variance of z) / P over that of z^2, P pairs
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.minigrid.tables.bootstrap import Resampler
from benchmarks.minigrid.tables.data import read_tasks
from benchmarks.minigrid.tables.markdown import number, table
from benchmarks.minigrid.tables.priors import GRIDS
from mordal_optuna.replay.light import run_light
from mordal_optuna.replay.run import method_settings, set_up
from mordal_optuna.replay.synthetic import synthetic_grid
from mordal_optuna.search.plan import PooledPlan

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mordal_optuna.pool import Candidate
    from mordal_optuna.replay.grid import Grid

# Method and limit in full runs; None for none.
SEARCHES: tuple[tuple[str, float | None], ...] = (("joint", 3.0), ("joint", 4.0), ("mordal", None))
MINIGRID, SYNTHETIC = "minigrid", "synthetic"
# First seed of the synthetic grids; none of `benchmarks.replay` or `priors`.
_FIRST = 1000
ALL, CLASSES = "all", ("measured", "extrapolated", "inferred")


@dataclass(frozen=True)
class Judged:
    """The final ranking of one search beside the truth, one entry per pair.

    Attributes:
        pool: `MINIGRID` or `SYNTHETIC`.
        task: name of the task.
        search: method and limit.
        classes: provenance of the estimates.
        inside: whether the 95 % interval contains the truth.
        z: see the module.
    """

    pool: str
    task: str
    search: tuple[str, float | None]
    classes: np.ndarray
    inside: np.ndarray
    z: np.ndarray


def judged(
    pool: str, grid: Grid, truth: Mapping[Candidate, float], search: tuple[str, float | None]
) -> Judged:
    """Run a search and compare its final ranking with the truth.

    Args:
        pool: name of the pool.
        grid: what the search sees.
        truth: score of every pair at r = 1, 0 to 1.
        search: method and limit.
    """
    method, limit = search
    plan = set_up(grid, method, method_settings(method), 0, limit).plan
    assert isinstance(plan, PooledPlan)
    history = run_light(plan, grid).history
    posterior = plan.ranker.posterior(history)
    estimates = {e.candidate: e for e in plan.ranking(history)}
    rows = [estimates[c] for c in posterior.candidates]
    scores = np.array([truth[c] for c in posterior.candidates])
    y = np.log(np.maximum(1 - scores, 0.5 / grid.test_documents))
    return Judged(
        pool,
        grid.task,
        search,
        np.array([e.provenance for e in rows]),
        np.array([e.low <= t <= e.high for e, t in zip(rows, scores, strict=True)]),
        (y - posterior.mean) / posterior.deviation,
    )


def common_share(zs: Sequence[np.ndarray]) -> float:
    """C, over the z of several searches; NaN if none has two pairs."""
    several = [z for z in zs if len(z) > 1]
    if not several:
        return float("nan")
    shared = np.mean([z.mean() ** 2 - z.var(ddof=1) / len(z) for z in several])
    return float(shared / np.mean([(z**2).mean() for z in several]))


def run_all(bootstraps: int, synthetic: int) -> Iterator[Judged]:
    """All searches on all grids.

    Args:
        bootstraps: number of bootstraps of each task.
        synthetic: number of synthetic grids.
    """
    for data in read_tasks(GRIDS):
        resampler = Resampler(data)
        for count in range(bootstraps):
            seen = resampler.replicate(count)
            for search in SEARCHES:
                yield judged(MINIGRID, seen.grid, seen.truth, search)
    for seed in range(_FIRST, _FIRST + synthetic):
        grid = synthetic_grid(seed)
        truth = {c: grid.truth(c) for c in grid.candidates}
        for search in SEARCHES:
            yield judged(SYNTHETIC, grid, truth, search)


def by_class(found: Sequence[Judged]) -> str:
    """Coverage and z by pool, search and class, in Markdown."""
    rows = []
    for pool in dict.fromkeys(one.pool for one in found):
        for search in dict.fromkeys(one.search for one in found):
            own = [one for one in found if one.pool == pool and one.search == search]
            for kind in (ALL, *CLASSES):
                chosen = [np.full(len(o.z), kind == ALL) | (o.classes == kind) for o in own]
                zs = [one.z[rows_] for one, rows_ in zip(own, chosen, strict=True)]
                z = np.concatenate(zs)
                if not len(z):
                    continue
                inside = np.concatenate([o.inside[r] for o, r in zip(own, chosen, strict=True)])
                figures = (inside.mean(), z.mean(), z.std())
                numbers = (number(float(v), n) for v, n in zip(figures, (3, 2, 2), strict=True))
                share = number(common_share(zs), 2)
                rows.append([pool, named(search), kind, str(len(z)), *numbers, share])
    return table(
        ["pool", "search", "class", "estimates", "covered", "mean z", "sd z", "C"], rows, text=3
    )


def by_task(found: Sequence[Judged]) -> str:
    """Coverage by task of the minigrid and search, in Markdown."""
    rows = []
    searches = list(dict.fromkeys(one.search for one in found))
    for task in dict.fromkeys(one.task for one in found if one.pool == MINIGRID):
        cells = []
        for search in searches:
            own = [o.inside for o in found if o.task == task and o.search == search]
            cells.append(number(float(np.concatenate(own).mean()), 3))
        rows.append([task, *cells])
    return table(["task", *map(named, searches)], rows)


def named(search: tuple[str, float | None]) -> str:
    """A search as a table names it."""
    method, limit = search
    return method if limit is None else f"{method}, {limit:g} full runs"


def main() -> None:
    """Run all searches and print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstraps", type=int, default=10)
    parser.add_argument("--synthetic", type=int, default=40)
    chosen = parser.parse_args()
    found = list(run_all(chosen.bootstraps, chosen.synthetic))
    print(f"{by_class(found)}\n\n{by_task(found)}")


if __name__ == "__main__":
    main()
