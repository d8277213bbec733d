"""Fewer documents at early rungs: quality and cost of evaluation, over bootstraps.

    OMP_NUM_THREADS=1 uv run python -m benchmarks.minigrid.tables.early --bootstraps 20

Searches see scores of early rungs on a fixed random subset of each bootstrap's documents, the same
for all pairs, as `early_documents: auto` chooses it; the rows with all documents are the same
searches without. `joint` for seven tasks has one budget for everything, so that what is
saved on documents is spent on training.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.minigrid.tables.bootstrap import Resampler, full_data
from benchmarks.minigrid.tables.data import read_tasks
from benchmarks.minigrid.tables.markdown import table
from benchmarks.minigrid.tables.several import searched as searched_together
from mordal_optuna.replay.light import run_light
from mordal_optuna.replay.metrics import interval_of_mean, weighted_tau
from mordal_optuna.replay.run import method_settings, set_up
from mordal_optuna.search.documents import early_documents

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.minigrid.tables.bootstrap import Replicate
    from benchmarks.minigrid.tables.data import TaskData
    from mordal_optuna.pool import Candidate
    from mordal_optuna.replay.grid import Grid
    from mordal_optuna.search.curves import Measurement

_GRIDS = Path(__file__).parents[1] / "grids"
# Searches for a single task: method and budget in full runs; then the budget for seven tasks.
SEARCHES: tuple[tuple[str, float | None], ...] = (("mordal", None), ("joint", 3.0), ("joint", 4.0))
TOGETHER = 8.0
FIGURES = ("tau", "regret", "evaluation", "everything")


@dataclass(frozen=True)
class EarlyGrid:
    """A replicate whose early rungs are scored on fewer documents, as searches look it up.

    Attributes:
        grid: the replicate on all documents.
        fewer: the replicate on the documents of an early rung, by samples.
        documents: number of documents by samples; rungs that are missing have all.
    """

    grid: Grid
    fewer: Mapping[int, Grid]
    documents: Mapping[int, int]

    @staticmethod
    def drawn(resampler: Resampler, number: int, documents: Mapping[int, int]) -> EarlyGrid:
        """A replicate with so many documents at each rung."""
        grids = {n: resampler.grid(number, n) for n in set(documents.values())}
        return EarlyGrid(
            resampler.grid(number), {s: grids[n] for s, n in documents.items()}, documents
        )

    def measurement(self, candidate: Candidate, samples: int) -> Measurement:
        """The measurement at a rung, with the cost of its documents."""
        if samples not in self.fewer:
            return self.grid.measurement(candidate, samples)
        found = self.fewer[samples].measurement(candidate, samples)
        documents = self.documents[samples]
        seconds = found.eval_seconds * documents / self.grid.test_documents
        return replace(found, documents=documents, eval_seconds=seconds)


@dataclass(frozen=True)
class _Row:
    search: str
    auto: bool
    figures: Mapping[str, float]


def rungs_of(grid: Grid, tasks: int) -> dict[int, int]:
    """Documents of the rungs with fewer than all, by samples."""
    numbers = {
        samples: early_documents(samples, grid.full_samples, grid.test_documents, tasks)
        for samples in grid.curves[0].samples
    }
    return {samples: n for samples, n in numbers.items() if n < grid.test_documents}


def alone(
    data: TaskData, seen: EarlyGrid, truth: Mapping[Candidate, float], number: int
) -> dict[str, dict[str, float]]:
    """Figures of the searches for one task, by search."""
    full, found = full_data(data), {}
    seconds = full.grid.full_run_seconds
    for method, budget in SEARCHES:
        plan = set_up(seen.grid, method, method_settings(method), number, budget).plan
        history = run_light(plan, seen).history
        ranking = plan.ranker.rank(history)
        picked = plan.winner(history)
        assert picked is not None
        records = history.candidates.values()
        evaluation = sum(r.eval_seconds for r in records) / seconds
        training = sum(r.train_seconds for r in records) / seconds
        found[f"{method} {budget or ''}".strip()] = {
            "tau": weighted_tau([e.value for e in ranking], [truth[e.candidate] for e in ranking]),
            "regret": 100 * (max(full.truth.values()) - full.truth[picked]),
            "evaluation": evaluation,
            "everything": evaluation + training,
        }
    return found


def together(
    tasks: Sequence[TaskData],
    seen: Mapping[str, EarlyGrid],
    drawn: Mapping[str, Replicate],
    number: int,
) -> dict[str, float]:
    """Figures of one search for all tasks."""
    whole = {data.task: full_data(data) for data in tasks}
    figures = searched_together(drawn, whole, TOGETHER, seed=number, seen=seen)
    return figures | {"evaluation": figures["everything"] - figures["training"]}


def bootstrap(number: int, *, grids: Path) -> list[_Row]:
    """All searches on one bootstrap, with all documents and with fewer."""
    tasks = read_tasks(grids)
    resamplers = {data.task: Resampler(data) for data in tasks}
    drawn = {name: resampler.replicate(number) for name, resampler in resamplers.items()}
    rows = []
    for auto in (False, True):
        one, several = (
            {
                data.task: EarlyGrid.drawn(
                    resamplers[data.task], number, rungs_of(data.grid, count) if auto else {}
                )
                for data in tasks
            }
            for count in (1, len(tasks))
        )
        single = [alone(d, one[d.task], drawn[d.task].truth, number) for d in tasks]
        rows += [
            _Row(
                name,
                auto,
                {f: float(np.mean([figures[name][f] for figures in single])) for f in FIGURES},
            )
            for name in single[0]
        ]
        rows.append(_Row("joint, seven tasks", auto, together(tasks, several, drawn, number)))
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstraps", type=int, default=20)
    parser.add_argument("--processes", type=int, default=2)
    chosen = parser.parse_args()
    work = partial(bootstrap, grids=_GRIDS)
    with ProcessPoolExecutor(chosen.processes) as pool:
        found = list(pool.map(work, range(chosen.bootstraps)))
    rows = []
    for row in range(len(found[0])):
        first = found[0][row]
        cells = [interval_of_mean([f[row].figures[key] for f in found]) for key in FIGURES]
        texts = [f"{mean:.3f} ± {half:.3f}" for mean, half in cells]
        rows.append([first.search, "auto" if first.auto else "all", *texts])
    print(table(["search", "documents", *FIGURES], sorted(rows)))


if __name__ == "__main__":
    main()
