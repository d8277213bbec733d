"""Regret against cost: this sampler and pruner, and Optuna's own, on pools with known scores.

    python example.py                      # synthetic pools, images/synthetic.png
    python example.py --out FILE.png GRID.json [GRID.json ...]  # grid files of measured scores

A pool is a table of scores of all pairs of 7 vision encoders and 7 LLMs, each trained on D/32,
D/16, ..., D samples. All searches of a pool get the same scores, the same rungs and the same
budget, which is what this package's sampler and pruner spend before they stop by themselves. All
costs are in full runs (a pair trained on D samples and scored once, on average), and include the
evaluations and the comparison of the models, which the others do without. A pair that is proposed
again continues from its checkpoint, in every search. The answer at any time is the pair with the
highest score so far, at whatever rung.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
import optunahub

from mordal_optuna.replay.costs import comparison_costs
from mordal_optuna.replay.grid import Grid, read_grid
from mordal_optuna.replay.metrics import interval_of_mean
from mordal_optuna.replay.synthetic import synthetic_grid

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE = Path(__file__).parent
# Once the package is in the public registry: optunahub.load_module("samplers/mordal").
mordal = optunahub.load_local_module("samplers/mordal", registry_root=str(HERE.parents[1]))

OURS = "CkaClusterSampler + LogLinearHalvingPruner"
TPE_HYPERBAND = "TPESampler + HyperbandPruner"
RANDOM_HALVING = "RandomSampler + SuccessiveHalvingPruner"
METHODS = (OURS, TPE_HYPERBAND, RANDOM_HALVING)
# Samples at each rung as fractions of D, and the factor between rungs.
RATIOS = (32, 16, 8, 4, 2, 1)
ETA = 2
# Samplers may propose fully trained pairs again, at no cost; after so many trials one has nothing
# new to propose.
MOST_TRIALS = 20 * 49


class Search:
    """One search of a pool: an objective that looks scores up, and what they would have cost."""

    def __init__(self, grid: Grid, answer_rung: int, spent: float, budget: float) -> None:
        """Begin a search.

        Args:
            grid: the pool and its scores.
            answer_rung: samples at which a trial is complete.
            spent: full runs spent before the first trial.
            budget: full runs at which the search is stopped.
        """
        self.grid, self.answer_rung, self.spent, self.budget = grid, answer_rung, spent, budget
        self.rungs = [grid.full_samples // ratio for ratio in RATIOS]
        self.known: dict[Any, dict[int, float]] = {}
        self.best_score = -1.0
        best = max(grid.truth(candidate) for candidate in grid.candidates)
        self.regrets = {c: 100 * (best - grid.truth(c)) for c in grid.candidates}
        # Points of a step curve. Before the first score the answer is a pair taken at random.
        self.curve = [(0.0, float(np.mean(list(self.regrets.values()))))]

    def __call__(self, trial: optuna.Trial) -> float:
        """The objective: train a pair from rung to rung until the pruner stops it."""
        pair = mordal.Candidate(
            trial.suggest_categorical("vision_encoder", self.grid.encoders),
            trial.suggest_categorical("llm", self.grid.llms),
        )
        for samples in self.rungs:
            score = self._score(pair, samples)
            trial.report(score, step=samples)
            if samples >= self.answer_rung:
                break
            if trial.should_prune():
                raise optuna.TrialPruned
        return score

    def stop_when_spent(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        """End a study whose budget is spent, or whose sampler has nothing new to propose."""
        if self.spent >= self.budget or trial.number >= MOST_TRIALS:
            study.stop()

    def _score(self, pair: Any, samples: int) -> float:
        """Look a score up; its cost counts if the pair was not trained so far before."""
        scores = self.known.setdefault(pair, {})
        if samples not in scores:
            result = self.grid.measurement(pair, samples)
            trained = self.grid.measurement(pair, max(scores)).train_seconds if scores else 0.0
            seconds = result.train_seconds - trained + result.eval_seconds
            self.spent += seconds / self.grid.full_run_seconds
            scores[samples] = result.score
            if result.score > self.best_score:
                self.best_score = result.score
                self.curve.append((self.spent, self.regrets[pair]))
        return scores[samples]


def search_ours(grid: Grid, seed: int) -> Search:
    """Our sampler and pruner with the default options of `mordal run`; stops by itself."""
    full = grid.full_samples
    tree = mordal.cluster_pool(
        grid.encoders, grid.llms, grid.vision_similarity, grid.similarity_of_llms, least=0.7
    )
    plan = mordal.MordalPlan(
        tree,
        rungs=(full // 32, full // 16),
        full_samples=full,
        top_clusters=5,
        fit_points=2,
        finish=mordal.Finish(finalists=6, race=(full // 8, full // 4, full // 2)),
    )
    compared, _ = comparison_costs(grid, tree)
    search = Search(grid, plan.answer_rung, compared.total / grid.full_run_seconds, np.inf)
    study = optuna.create_study(
        direction="maximize",
        sampler=mordal.CkaClusterSampler(plan, seed=seed),
        pruner=mordal.LogLinearHalvingPruner(plan),
    )
    study.optimize(search)
    return search


def search_stock(grid: Grid, method: str, seed: int, budget: float) -> Search:
    """Optuna's own sampler and pruner, up to a budget in full runs."""
    search = Search(grid, grid.full_samples, 0.0, budget)
    if method == TPE_HYPERBAND:
        sampler: optuna.samplers.BaseSampler = optuna.samplers.TPESampler(seed=seed)
        pruner: optuna.pruners.BasePruner = optuna.pruners.HyperbandPruner(
            search.rungs[0], search.rungs[-1], ETA
        )
    else:
        sampler = optuna.samplers.RandomSampler(seed=seed)
        pruner = optuna.pruners.SuccessiveHalvingPruner(search.rungs[0], reduction_factor=ETA)
    study = optuna.create_study(
        direction="maximize",
        sampler=sampler,
        pruner=pruner,
        # Hyperband draws a trial's bracket from the study's name.
        study_name=f"{grid.task}-{seed}",
    )
    study.optimize(search, callbacks=[search.stop_when_spent])
    return search


def search_pool(grid: Grid, seed: int) -> dict[str, Search]:
    """Search a pool by every method, at equal cost."""
    ours = search_ours(grid, seed)
    stock = (TPE_HYPERBAND, RANDOM_HALVING)
    return {OURS: ours} | {name: search_stock(grid, name, seed, ours.spent) for name in stock}


def regret_at(search: Search, cost: float) -> float:
    """Regret in points of the answer that a search has after a cost in full runs."""
    return [regret for spent, regret in search.curve if spent <= cost][-1]


def regrets(searches: Sequence[Sequence[Search]], cost: float = np.inf) -> np.ndarray:
    """Mean regret on each pool.

    Args:
        searches: searches of one method, by pool and random seed.
        cost: cost in full runs; by default all that was spent.
    """
    return np.array([np.mean([regret_at(one, cost) for one in seeds]) for seeds in searches])


def draw(results: dict[str, list[list[Search]]], title: str, path: Path) -> None:
    """Write the figure: mean regret against cost, with 95 % intervals over pools."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    last = float(np.mean([search.spent for seeds in results[OURS] for search in seeds]))
    costs = np.linspace(0, last, 101)
    figure, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    styles = zip(("#0b5fa5", "#c2410c", "#4d7c0f"), ("-", "--", ":"), METHODS, strict=True)
    for color, line, method in styles:
        by_cost = [interval_of_mean(regrets(results[method], cost)) for cost in costs]
        mean, half = np.array(by_cost).T
        axes.plot(costs, mean, line, color=color, label=method)
        axes.fill_between(costs, mean - half, mean + half, color=color, alpha=0.15, linewidth=0)
    axes.set(xlabel="cost, full runs (the whole grid: 49)", ylabel="regret, points", title=title)
    axes.set_xlim(0, last)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def main(arguments: Sequence[str] | None = None) -> dict[str, list[list[Search]]]:
    """Search all pools, print the last regrets, and write the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("grids", nargs="*", type=Path, help="grid files of mordal-optuna")
    parser.add_argument("--pools", type=int, default=30, help="synthetic pools without grid files")
    parser.add_argument("--seeds", type=int, default=1, help="random seeds on each pool")
    parser.add_argument("--out", type=Path, default=HERE / "images" / "synthetic.png")
    chosen = parser.parse_args(arguments)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    grids = [read_grid(path) for path in chosen.grids]
    title = f"{len(grids)} measured grids"
    if not grids:
        grids = [synthetic_grid(number) for number in range(chosen.pools)]
        title = f"{len(grids)} synthetic pools"
    results: dict[str, list[list[Search]]] = {method: [] for method in METHODS}
    for grid in grids:
        runs = [search_pool(grid, seed) for seed in range(chosen.seeds)]
        for method in METHODS:
            results[method].append([run[method] for run in runs])
    title += f", {chosen.seeds} random seed{'s' * (chosen.seeds > 1)} each: mean, 95 % over pools"
    draw(results, title, chosen.out)
    for method in METHODS:
        print(line(method, results))
    return results


def line(method: str, results: dict[str, list[list[Search]]]) -> str:
    """Cost and regret of a method, and how much more it loses than ours on the same pools."""
    spent = np.mean([search.spent for seeds in results[method] for search in seeds])
    mean, half = interval_of_mean(regrets(results[method]))
    text = f"{method:40} {spent:5.2f} full runs, regret {mean:5.2f} ± {half:.2f} points"
    if method == OURS:
        return text
    more, half = interval_of_mean(regrets(results[method]) - regrets(results[OURS]))
    return f"{text}, {more:+.2f} ± {half:.2f} against ours"


if __name__ == "__main__":
    main()
