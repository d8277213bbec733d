"""One replayed search: set up as a study file would, simulated, judged against the truth."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import optuna

from mordal_optuna.config import FAITHFUL, SearchSettings
from mordal_optuna.errors import ConfigError, GridError
from mordal_optuna.replay.costs import PICTURE, SCORED_DOCUMENT, TRAIN_SAMPLE, PartCosts
from mordal_optuna.replay.metrics import weighted_tau, weighted_tau_random_ties
from mordal_optuna.replay.simulate import PlanSteering, Simulation
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
from mordal_optuna.search.pruner import LogLinearHalvingPruner
from mordal_optuna.search.ranking import Ranker
from mordal_optuna.search.rungs import build_rungs
from mordal_optuna.search.sampler import CkaClusterSampler, study_history
from mordal_optuna.search.standings import standings
from mordal_optuna.study.objective import Objective

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mordal_optuna.pool import Candidate
    from mordal_optuna.replay.grid import Grid
    from mordal_optuna.replay.simulate import Simulated, Steering
    from mordal_optuna.search.history import History
    from mordal_optuna.search.plan import Plan
    from mordal_optuna.search.ranking import Estimate

Preset = Literal["default", "faithful"]
# Names of all methods that can be replayed: those of a study file, and stock Optuna.
METHODS = (*catalogue.METHODS, *STOCK)
# Methods that would otherwise train the whole grid: without a budget of their own they get what
# `mordal` spends on the same file.
BUDGETED = (*(name for name, spec in catalogue.METHODS.items() if spec.needs_budget), *STOCK)


@dataclass(frozen=True)
class Replay:
    """A replayed search and how good its answer is.

    Attributes:
        task: the grid file's task.
        method: name of the method.
        seed: of what is random in it.
        ranking: the whole pool, best first.
        picked: the answer.
        regret: score points on 0..1 that the answer loses against the best at r = 1.
        tau: weighted tau of the whole pool, ties as they are.
        tau_random_ties: mean over random orders of the tied.
        tau_top10: weighted tau among the ten that are truly best.
        best_rejected: whether no truly best candidate was estimated as finely as the plan asks
            for (`Plan.is_settled`): it was dropped on the way. A race drops nobody in this sense.
        gain: cost of the grid over cost of the search; None where the file knows no costs, all
            of its seconds being 0.
        gain_projected: the same with costs projected to 7B models; None where the projection
            needs a cost that the file does not know.
        full_runs: cost of the search in full runs; None as `gain`.
        cost: its parts, device-seconds.
        cost_projected: its parts, projected; None as `gain_projected`.
        rungs_run: scores measured.
        workers: how many worked at the same time.
        elapsed_seconds: simulated seconds of the trials, from the first start to the last end.
        stopped_because: why it ended.
        coverage: share of the pool whose interval holds the score at r = 1.
        bias: mean over the pool of estimate less score at r = 1, signed, on 0..1.
        winner_error: the same of the answer alone.
        held: whether the first two groups that people are shown (see `search.standings`) hold a
            truly best candidate; None where they were not asked for.
        tied: candidates in the first group, measured and within noise of the answer; None as
            `held`.
    """

    task: str
    method: str
    seed: int
    ranking: tuple[Estimate, ...]
    picked: tuple[str, str]
    regret: float
    tau: float
    tau_random_ties: float
    tau_top10: float
    best_rejected: bool
    gain: float | None
    gain_projected: float | None
    full_runs: float | None
    cost: PartCosts
    cost_projected: PartCosts | None
    rungs_run: int
    workers: int
    elapsed_seconds: float
    stopped_because: str
    coverage: float
    bias: float
    winner_error: float
    held: bool | None = None
    tied: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        plain = asdict(self)
        plain["ranking"] = [
            {
                "encoder": e.candidate.vision_encoder,
                "llm": e.candidate.llm,
                "estimate": e.value,
                "low": e.low,
                "high": e.high,
                "known": e.provenance,
            }
            for e in self.ranking
        ]
        return plain


def replay(
    grid: Grid,
    method: str,
    *,
    settings: SearchSettings | None = None,
    seed: int = 0,
    workers: int = 1,
    budget: float | None = None,
) -> Replay:
    """Replay one search.

    Args:
        grid: the truth.
        method: one of `METHODS`.
        settings: options of the search; its own `method` is not looked at. The method's defaults
            otherwise.
        seed: of what is random in the method, and of the random orders of the tied.
        workers: how many work at the same time on the simulated clock.
        budget: stop once so many full runs are spent. `BUDGETED` methods get by default what
            `mordal` spends on the same file with the same workers.

    Raises:
        ConfigError: for a method or a setting that is not allowed.
        GridError: if the search asks for what the file lacks, as a budget does of a file without
            costs.
        SearchError: if the ratios leave too few rungs.
    """
    check_method(method)
    if budget is not None and budget <= 0:
        raise ConfigError([f"--budget: got {budget!r}; it must be above 0 full runs"])
    if (budget is not None or method in BUDGETED) and not grid.grid_seconds:
        raise GridError(
            f"the grid file of {grid.task!r} knows no costs (all of its seconds are 0), so no "
            f"budget can be kept; it was given or is needed by {method!r}"
        )
    if budget is None and method in BUDGETED:
        budget = replay(grid, "mordal", seed=seed, workers=workers).full_runs
    setup = set_up(grid, method, settings or method_settings(method), seed, budget)
    study = optuna.create_study(
        direction="maximize", sampler=setup.sampler, pruner=setup.pruner, study_name=method
    )
    simulated = Simulation(
        study,
        Objective(setup.plan, grid.measurement),
        grid.measurement,
        setup.steering,
        workers=workers,
    ).run()
    return judge(grid, method, seed, workers, setup, study_history(study), simulated)


def check_method(method: str) -> None:
    """Make sure that there is such a method.

    Raises:
        ConfigError: if not.
    """
    if method not in METHODS:
        raise ConfigError([f"--method: got {method!r}; allowed are {', '.join(METHODS)}"])


def method_settings(method: str, preset: Preset = "default") -> SearchSettings:
    """A method's default options, with which the tables are made.

    Stock Optuna takes the rungs of `mordal`. The grid scores every pair once, at r = 1.

    Args:
        method: one of `METHODS`.
        preset: `faithful` gives the paper's settings to whatever the method shares with it.
    """
    name = method if method in catalogue.METHODS else "mordal"
    ends = {"first_ratio": 1.0, "max_ratio": 1.0} if name == "grid" else {}
    if preset == "default":
        return SearchSettings.model_validate({"method": name, **ends})
    chosen = "mordal-faithful" if name == "mordal" else name
    return SearchSettings.model_validate({**FAITHFUL, "method": chosen, **ends})


@dataclass(frozen=True)
class SetUp:
    """A search that is ready to run.

    Attributes:
        plan: decides.
        sampler: proposes.
        pruner: stops.
        steering: says whether another trial should be started.
        before: spent before the first trial, device-seconds.
        before_projected: the same, projected; None where that is not known.
    """

    plan: Plan
    sampler: optuna.samplers.BaseSampler
    pruner: optuna.pruners.BasePruner
    steering: Steering
    before: PartCosts
    before_projected: PartCosts | None


def set_up(
    grid: Grid, method: str, settings: SearchSettings, seed: int, budget: float | None
) -> SetUp:
    """Set a search up as a study file would.

    Args:
        grid: gives the pool, its similarities and what comparing it costs.
        method: one of `METHODS`.
        settings: options of the search; for stock Optuna those of its rungs.
        seed: of what is random in the method.
        budget: in full runs; None sets no limit.

    Raises:
        GridError: if the file lacks a similarity or a cost.
        SearchError: if the ratios leave too few rungs.
    """
    hours = None if budget is None else budget * grid.full_run_seconds / 3600
    if method in STOCK:
        return _stock(grid, method, settings, seed, Budget(hours))
    comparing = catalogue.METHODS[settings.method].compares_models
    tree = pool_tree(grid, settings) if comparing else ClusterTree.flat(grid.encoders, grid.llms)
    before, projected = comparison_costs(grid, tree) if comparing else (PartCosts(), PartCosts())
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
    """Rungs from the same lowest ratio up to D."""
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
        PartCosts(),
        PartCosts(),
    )


def pool_tree(grid: Grid, settings: SearchSettings) -> ClusterTree:
    """The pool clustered as a study file's `search` section asks for.

    Raises:
        GridError: if the file lacks a similarity.
    """
    return cluster_pool(
        grid.encoders,
        grid.llms,
        grid.vision_similarity,
        grid.similarity_of_llms,
        vision_threshold=settings.vision_threshold,
        llm_threshold=settings.llm_threshold,
        linkage=settings.linkage,
        least=LEAST_CKA,
    )


def warmed_up(tree: ClusterTree) -> list[Candidate]:
    """Whose projectors are warmed up: every LLM's with the medoid of every vision cluster."""
    medoids = {cluster.vision.medoid for cluster in tree.clusters}
    return [c for c in tree.candidates if c.vision_encoder in medoids]


def comparison_costs(grid: Grid, tree: ClusterTree) -> tuple[PartCosts, PartCosts | None]:
    """What features and warm-ups cost, measured and projected.

    A warm-up is projected by the samples that a pair trains on in the same time. Where the file
    does not know how fast a pair trains, nothing is projected.

    Raises:
        GridError: if the file lacks a cost.
    """
    seconds = {candidate: grid.warmup(candidate) for candidate in warmed_up(tree)}
    measured = PartCosts(features=grid.feature_seconds, warmup=sum(seconds.values()))
    if not all(grid.seconds_per_sample(candidate) for candidate in seconds):
        return measured, None
    equal_samples = sum(s / grid.seconds_per_sample(c) for c, s in seconds.items())
    pictures = len(grid.encoders) * grid.test_documents
    projected = PartCosts(features=pictures * PICTURE, warmup=equal_samples * TRAIN_SAMPLE)
    return measured, projected


def judge(
    grid: Grid,
    method: str,
    seed: int,
    workers: int,
    setup: SetUp,
    history: History,
    simulated: Simulated,
    *,
    draws: int = 100,
    groups: bool = True,
) -> Replay:
    """Judge what a search has found.

    Args:
        grid: the truth.
        method: its name.
        seed: of the random orders of the tied.
        workers: how many worked at the same time.
        setup: the search.
        history: what it has measured.
        simulated: how it went.
        draws: random orders of the tied.
        groups: whether to look at the groups that people are shown.
    """
    ranking = setup.plan.ranking(history)
    winner = setup.plan.winner(history) or ranking[0].candidate
    truth = {candidate: grid.truth(candidate) for candidate in grid.candidates}
    best = max(truth.values())
    estimates = [e.value for e in ranking]
    truths = [truth[e.candidate] for e in ranking]
    cost, projected = _costs(grid, history, setup)
    errors = {e.candidate: e.value - truth[e.candidate] for e in ranking}
    top = [candidate for candidate, score in truth.items() if score == best]
    held, tied = _groups(setup.plan, history, winner, top) if groups else (None, None)
    return Replay(
        task=grid.task,
        method=method,
        seed=seed,
        ranking=ranking,
        picked=(winner.vision_encoder, winner.llm),
        regret=best - truth[winner],
        tau=weighted_tau(estimates, truths),
        tau_random_ties=weighted_tau_random_ties(estimates, truths, draws=draws, seed=seed),
        tau_top10=tau_of_top(estimates, truths),
        best_rejected=not any(
            score == best and setup.plan.is_settled(history, candidate)
            for candidate, score in truth.items()
        ),
        gain=ratio(grid.grid_seconds, cost.total),
        gain_projected=ratio(projected_grid_seconds(grid), projected.total) if projected else None,
        full_runs=ratio(cost.total, grid.full_run_seconds),
        cost=cost,
        cost_projected=projected,
        rungs_run=len(simulated.jobs),
        workers=workers,
        elapsed_seconds=simulated.seconds,
        stopped_because=simulated.reason,
        coverage=float(np.mean([e.low <= truth[e.candidate] <= e.high for e in ranking])),
        bias=float(np.mean(list(errors.values()))),
        winner_error=errors[winner],
        held=held,
        tied=tied,
    )


def _groups(
    plan: Plan, history: History, winner: Candidate, best: Sequence[Candidate]
) -> tuple[bool, int]:
    """Whether the first two groups hold one of the best, and how many are in the first."""
    found = plan.ranker.posterior(history)
    ranking = plan.ranker.rank_with_chances(history, found)
    stand = standings(plan, history, ranking, winner, run_noise=found.run_noise)
    held = any(stand[candidate].group in ("tied", "open") for candidate in best)
    return held, sum(standing.group == "tied" for standing in stand.values())


def ratio(cost: float, other: float) -> float | None:
    """How many times one cost is the other; None where the other is not known to be above 0."""
    return cost / other if other else None


def tau_of_top(estimates: Sequence[float], truths: Sequence[float], count: int = 10) -> float:
    """Weighted tau among the truly best; 0 in a pool of one."""
    best = np.argsort(truths, kind="stable")[::-1][:count]
    if len(best) < 2:
        return 0.0
    return weighted_tau([estimates[i] for i in best], [truths[i] for i in best])


def _costs(grid: Grid, history: History, setup: SetUp) -> tuple[PartCosts, PartCosts | None]:
    known = history.candidates.values()
    measured = PartCosts(
        features=setup.before.features,
        warmup=setup.before.warmup,
        training=sum(h.measurements[-1].train_seconds for h in known if h.measurements),
        evaluation=sum(m.eval_seconds for h in known for m in h.measurements),
    )
    if setup.before_projected is None:
        return measured, None
    scored = sum(len(h.measurements) for h in known) * grid.test_documents
    projected = PartCosts(
        features=setup.before_projected.features,
        warmup=setup.before_projected.warmup,
        training=sum(h.top for h in known) * TRAIN_SAMPLE,
        evaluation=scored * SCORED_DOCUMENT,
    )
    return measured, projected


def projected_grid_seconds(grid: Grid) -> float:
    """Cost of the grid, projected."""
    each = grid.full_samples * TRAIN_SAMPLE + grid.test_documents * SCORED_DOCUMENT
    return len(grid.candidates) * each
