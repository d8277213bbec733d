"""Replay one search: set it up as a study file would, simulate it, judge its answer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import optuna

from mordal_optuna.config import FAITHFUL, SearchSettings
from mordal_optuna.errors import ConfigError, GridError
from mordal_optuna.replay.costs import comparison_costs
from mordal_optuna.replay.judging import judge
from mordal_optuna.replay.simulate import Limit, PlanSteering, SetUp, Simulation
from mordal_optuna.replay.stock import (
    STOCK,
    StockPlan,
    StockSteering,
    stock_pruner,
    stock_sampler,
)
from mordal_optuna.search.budget import Budget
from mordal_optuna.search.clusters import LEAST_CKA, ClusterTree, cluster_pool
from mordal_optuna.search.methods import catalogue
from mordal_optuna.search.methods.building import build_plan
from mordal_optuna.search.methods.comparing import compared_models
from mordal_optuna.search.pruner import LogLinearHalvingPruner
from mordal_optuna.search.ranking import Ranker
from mordal_optuna.search.rungs import build_rungs
from mordal_optuna.search.sampler import CkaClusterSampler, study_history
from mordal_optuna.study.costs import Costs
from mordal_optuna.study.objective import Objective

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mordal_optuna.pool import Candidate
    from mordal_optuna.replay.grid import Grid
    from mordal_optuna.replay.judging import Replay
    from mordal_optuna.search.jobs import Job

Preset = Literal["default", "faithful"]
# Names of all methods that can be replayed: those of a study file, and stock Optuna.
METHODS = (*catalogue.METHODS, *STOCK)
# Methods that would train the whole grid: by default their budget is what `mordal` spends on the
# same file.
BUDGETED = (*(name for name, spec in catalogue.METHODS.items() if spec.needs_budget), *STOCK)


def replay(
    grid: Grid,
    method: str,
    *,
    settings: SearchSettings | None = None,
    seed: int = 0,
    workers: int = 1,
    budget: float | None = None,
    truths: Mapping[Candidate, float] | None = None,
) -> Replay:
    """Replay one search.

    Args:
        grid: grid file with all curves.
        method: one of `METHODS`.
        settings: options of the search, whose `method` is ignored; the method's defaults if None.
        seed: random seed of the method and of the orders of tied pairs.
        workers: number of workers on the simulated clock, at least 1.
        budget: cost in full runs, above 0, at which the search stops. By default none, or for
            `BUDGETED` methods what `mordal` spends on the same file with one worker.
        truths: true score of each pair by which the answer is judged, as in `judge`.

    Raises:
        ConfigError: if a method or a setting is not allowed.
        GridError: if the file lacks what the search needs, such as costs for a budget.
        SearchError: if the ratios leave too few rungs, or there is no worker.
    """
    check_method(method)
    if budget is not None and not 0 < budget < math.inf:  # nor nan
        raise ConfigError([f"--budget: got {budget!r}; it must be a number of full runs above 0"])
    if (budget is not None or method in BUDGETED) and not grid.grid_seconds:
        raise GridError(
            f"the grid file of {grid.task!r} lists no costs (all of its seconds are 0), so no "
            f"budget can be kept; it was given or is needed by {method!r}"
        )
    if budget is None and method in BUDGETED:
        budget = replay(grid, "mordal", seed=seed).full_runs
    setup = set_up(grid, method, settings or method_settings(method), seed, budget)
    study = optuna.create_study(
        direction="maximize",
        sampler=setup.sampler,
        pruner=setup.pruner,
        # Hyperband draws the bracket of a trial from the study's name and the trial's number, so
        # equal names would give all seeds the same brackets.
        study_name=f"{method}-{seed}",
    )
    simulated = Simulation(
        study,
        Objective(setup.plan, grid.measurement),
        grid.measurement,
        setup.steering,
        workers=workers,
        limit=_limit(grid, method, setup, budget),
    ).run()
    history = study_history(study)
    return judge(grid, method, seed, workers, setup, history, simulated, truths=truths)


def _limit(grid: Grid, method: str, setup: SetUp, budget: float | None) -> Limit | None:
    """The budget of the trials; stock Optuna's climb until the pruner stops them."""
    if budget is None:
        return None

    def climb(job: Job) -> float:
        above = [m for m in grid.measurements(job.candidate) if m.samples >= job.samples]
        training = above[-1].train_seconds - above[0].train_seconds
        return training + sum(m.eval_seconds for m in above[1:] if m.samples in setup.plan.rungs)

    seconds = budget * grid.full_run_seconds - setup.before.total
    return Limit(seconds, climb if method in STOCK else lambda _: 0.0)


def check_method(method: str) -> None:
    """Check the name of a method.

    Raises:
        ConfigError: if it is not one of `METHODS`.
    """
    if method not in METHODS:
        raise ConfigError([f"--method: got {method!r}; allowed are {', '.join(METHODS)}"])


def method_settings(method: str, preset: Preset = "default") -> SearchSettings:
    """Default options of a method in replays.

    Stock Optuna has the rungs of `mordal`. The grid scores every pair once, at r = 1.

    Args:
        method: one of `METHODS`.
        preset: `default`, or `faithful` for the paper's settings of all options that the method
            uses.
    """
    name = method if method in catalogue.METHODS else "mordal"
    ends = {"first_ratio": 1.0, "max_ratio": 1.0} if name == "grid" else {}
    if preset == "default":
        return SearchSettings.model_validate({"method": name, **ends})
    faithful = "mordal-faithful" if name == "mordal" else name
    return SearchSettings.model_validate({**FAITHFUL, "method": faithful, **ends})


def set_up(
    grid: Grid, method: str, settings: SearchSettings, seed: int, budget: float | None
) -> SetUp:
    """Set up a search as a study file would.

    Args:
        grid: grid file with the pool, its similarities and the costs of comparing it.
        method: one of `METHODS`.
        settings: options of the search; stock Optuna uses only those of the rungs.
        seed: random seed of the method.
        budget: limit in full runs; None for no limit.

    Raises:
        GridError: if the file lacks a similarity or a cost.
        SearchError: if the ratios leave too few rungs.
    """
    hours = None if budget is None else budget * grid.full_run_seconds / 3600
    if method in STOCK:
        return _stock(grid, method, settings, seed, Budget(hours))
    tree = pool_tree(grid, settings)
    before, projected = comparison_costs(grid, tree) if tree.thresholds else (Costs(), Costs())
    plan = build_plan(
        settings.model_copy(update={"device_hours": hours}),
        tree,
        grid.full_samples,
        seed=seed,
        spent_seconds=before.total,
    )
    return SetUp(
        plan,
        CkaClusterSampler(plan, seed=seed),
        LogLinearHalvingPruner(plan),
        PlanSteering(plan),
        before,
        projected,
    )


def _stock(grid: Grid, method: str, settings: SearchSettings, seed: int, budget: Budget) -> SetUp:
    """Set up stock Optuna, with rungs from the lowest ratio up to D."""
    tree = ClusterTree.flat(grid.encoders, grid.llms)
    rungs = build_rungs(
        grid.full_samples, first_ratio=settings.first_ratio, max_ratio=1.0, eta=settings.eta
    )
    ranker = Ranker(
        tree, grid.full_samples, confidence=settings.confidence, points=settings.fit_points
    )
    plan = StockPlan(tree, rungs, ranker, budget)
    return SetUp(
        plan,
        stock_sampler(method, plan, seed=seed),
        stock_pruner(method, plan, eta=settings.eta),
        StockSteering(plan),
        Costs(),
        Costs(),
    )


def pool_tree(grid: Grid, settings: SearchSettings) -> ClusterTree:
    """Compare and cluster the pool by the options of a study file's `search` section.

    A pool whose models are not compared has no clusters.

    Raises:
        GridError: if the file lacks a similarity.
    """
    warmups = list(grid.warmup_seconds.values())
    known = warmups and grid.full_run_seconds
    share = sum(warmups) / len(warmups) / grid.full_run_seconds if known else 1.0
    compared = compared_models(settings, len(grid.encoders), len(grid.llms), warmup_share=share)
    if not compared.encoders:
        return ClusterTree.flat(grid.encoders, grid.llms)
    return cluster_pool(
        grid.encoders,
        grid.llms,
        grid.similarity_of_encoders(),
        grid.similarity_of_llms if compared.llms else None,
        vision_threshold=settings.vision_threshold,
        llm_threshold=settings.llm_threshold,
        linkage=settings.linkage,
        least=LEAST_CKA,
        one_medoid=not catalogue.METHODS[settings.method].needs_clusters,
    )
