"""Seven tasks in one search by `joint`: quality and cost, over bootstraps.

    OMP_NUM_THREADS=1 uv run python -m benchmarks.minigrid.tables.several --bootstraps 20

A pair is trained once and scored on all tasks at each rung that is scored, or with `--score-tasks
useful` on those that are worth their cost; `scores` counts pair, rung and task. Every task is
ranked by the model of all tasks; its winner is the best estimate among scored pairs. The tasks'
bootstraps with the same number have the same runs of the pairs. `one_tau` and `one_regret` are
those of one model for all tasks, by the mean of the tasks' scores. Costs are those of all tasks
together: training, with features, and everything. With `--apart` every task has a model of its own
scores alone, for the choice of jobs and for the ranking, and the mean has one of the means.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

import numpy as np

from benchmarks.minigrid.tables.bootstrap import Resampler, full_data
from benchmarks.minigrid.tables.data import read_tasks
from mordal_optuna.replay.light import run_light
from mordal_optuna.replay.metrics import interval_of_mean, weighted_tau
from mordal_optuna.replay.run import method_settings, pool_tree
from mordal_optuna.search.joint import multitask
from mordal_optuna.search.methods.building import build_plan
from mordal_optuna.search.ranking import Ranker
from mordal_optuna.search.tasks import PartialMeasurement, weighted_mean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.minigrid.tables.bootstrap import Replicate
    from mordal_optuna.pool import Candidate
    from mordal_optuna.replay.light import Measured
    from mordal_optuna.search.curves import Measurement
    from mordal_optuna.search.ranking import Estimate

_GRIDS = Path(__file__).parents[1] / "grids"
BUDGETS = (4.0, 6.0, 8.0, 10.0)
FIGURES = ("tau", "regret", "one_tau", "one_regret", "training", "everything", "scores")


@dataclass(frozen=True)
class SeveralGrids:
    """The grids of several tasks over one pool, read as one that scores all of them.

    Attributes:
        grids: grid of each task, by name.
    """

    grids: Mapping[str, Measured]

    def measurement(self, candidate: Candidate, samples: int) -> Measurement:
        """The mean over the tasks, with each task's own measurement."""
        by_task = {name: grid.measurement(candidate, samples) for name, grid in self.grids.items()}
        return weighted_mean(by_task, dict.fromkeys(by_task, 1.0))

    def of_tasks(
        self, candidate: Candidate, samples: int, tasks: Sequence[str]
    ) -> PartialMeasurement:
        """The measurements on some tasks."""
        return PartialMeasurement(
            samples, {name: self.grids[name].measurement(candidate, samples) for name in tasks}
        )


def searched(
    replicates: Mapping[str, Replicate],
    whole: Mapping[str, Replicate],
    budget: float,
    *,
    seed: int,
    seen: Mapping[str, Measured] | None = None,
    score_tasks: str = "all",
    apart: bool = False,
) -> dict[str, float]:
    """Figures of one search for all tasks.

    Args:
        replicates: a bootstrap of each task, by name.
        whole: the full data of each task, by which regret is measured.
        budget: cost of everything in full runs.
        seed: random seed of the start.
        seen: what the search sees of each task; None for the replicates.
        score_tasks: option of the search.
        apart: whether the mean is ranked by a model of the means.
    """
    grids = {name: replicate.grid for name, replicate in replicates.items()}
    first = next(iter(grids.values()))
    options = method_settings("joint").model_copy(
        update={
            "device_hours": budget * first.full_run_seconds / 3600,
            "score_tasks": score_tasks,
        }
    )
    plan = build_plan(
        options,
        pool_tree(first, options),
        first.full_samples,
        seed=seed,
        spent_seconds=first.feature_seconds,
        tasks=dict.fromkeys(grids, 1.0),
    )
    history = run_light(plan, SeveralGrids(seen or grids)).history
    names = tuple(replicates)
    posteriors = plan.ranker.task_posteriors(history, names)
    judged = [
        _judged(
            plan.ranker.rank_with_chances(history.of_task(name), posteriors[name]),
            replicates[name].truth,
            whole[name].truth,
        )
        for name in names
    ]
    ranker = Ranker(pool_tree(first, options), first.full_samples) if apart else plan.ranker
    one = _judged(
        ranker.rank(history),
        *(_mean_truth([of[name].truth for name in names]) for of in (replicates, whole)),
    )
    taus, regrets = zip(*judged, strict=True)
    records = history.candidates.values()
    training = sum(r.train_seconds for r in records) + first.feature_seconds
    everything = training + sum(r.eval_seconds for r in records)
    seconds = first.full_run_seconds
    return {
        "tau": float(np.mean(taus)),
        "regret": float(np.mean(regrets)),
        "one_tau": one[0],
        "one_regret": one[1],
        "training": training / seconds,
        "everything": everything / seconds,
        "scores": sum(len(m.by_task) for r in records for m in r.rungs),
    }


def _judged(
    ranking: Sequence[Estimate], truth: Mapping[Candidate, float], whole: Mapping[Candidate, float]
) -> tuple[float, float]:
    """Weighted tau of a ranking, and the points that its first scored pair loses."""
    tau = weighted_tau([e.value for e in ranking], [truth[e.candidate] for e in ranking])
    picked = next(e.candidate for e in ranking if e.samples)
    return tau, 100 * (max(whole.values()) - whole[picked])


def _mean_truth(truths: Sequence[Mapping[Candidate, float]]) -> dict[Candidate, float]:
    return {c: float(np.mean([truth[c] for truth in truths])) for c in truths[0]}


def bootstrap(
    number: int,
    *,
    grids: Path,
    budgets: Sequence[float],
    score_tasks: str = "all",
    apart: bool = False,
) -> list[dict[str, float]]:
    """Figures of one bootstrap at every budget."""
    tasks = read_tasks(grids)
    drawn = {data.task: Resampler(data).replicate(number) for data in tasks}
    whole = {data.task: full_data(data) for data in tasks}
    # Tasks of a pool that is too large for it share nothing.
    most = 0 if apart else multitask.MOST_PAIRS
    with patch.object(multitask, "MOST_PAIRS", most):
        return [
            searched(drawn, whole, budget, seed=number, score_tasks=score_tasks, apart=apart)
            for budget in budgets
        ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstraps", type=int, default=20)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--score-tasks", choices=("all", "useful"), default="all")
    parser.add_argument("--apart", action="store_true")
    parser.add_argument("--budgets", type=float, nargs="+", default=BUDGETS)
    chosen = parser.parse_args()
    work = partial(
        bootstrap,
        grids=_GRIDS,
        budgets=chosen.budgets,
        score_tasks=chosen.score_tasks,
        apart=chosen.apart,
    )
    with ProcessPoolExecutor(chosen.processes) as pool:
        rows = list(pool.map(work, range(chosen.bootstraps)))
    print(f"| budget | {' | '.join(FIGURES)} |\n|--:|{'--:|' * len(FIGURES)}")
    for place, budget in enumerate(chosen.budgets):
        cells = [interval_of_mean([row[place][key] for row in rows]) for key in FIGURES]
        texts = [f"{mean:.3f} ± {half:.3f}" for mean, half in cells]
        print(f"| {budget:g} | {' | '.join(texts)} |")


if __name__ == "__main__":
    main()
