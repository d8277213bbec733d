"""The table of compared methods, and how each is set up on a grid with a budget.

Methods without features and comparisons of models pay none: their first second is a training
second. Their random choices are seeded by the number of the bootstrap or of the synthetic grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from benchmarks.rivals_search import joint_methods
from benchmarks.rivals_search.asha import AshaPlan
from benchmarks.rivals_search.oboe import OboePlan
from benchmarks.rivals_search.oboe_tasks import OboeTasksPlan
from mordal_optuna.replay.run import method_settings, set_up
from mordal_optuna.replay.simulate import PlanSteering, SetUp
from mordal_optuna.search.pruner import LogLinearHalvingPruner
from mordal_optuna.search.ranking import Ranker
from mordal_optuna.search.sampler import CkaClusterSampler
from mordal_optuna.study.costs import Costs

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.rivals_search.problem import Problem
    from mordal_optuna.replay.grid import Grid
    from mordal_optuna.search.plan import Plan

# Ratios of the experiments of `oboe`; chosen on synthetic grids that are not among those reported.
OBOE_RATIOS: tuple[float, ...] = (1 / 8,)
Needs = Literal["nothing", "other tasks", "a study"]


@dataclass(frozen=True)
class Method:
    """A compared method.

    Attributes:
        name: name of the row.
        summary: what it is, in one line.
        set_up: prepares its search.
        needs: what it needs beside the grid: nothing, grids of other tasks, or a study (stock
            Optuna, which is slower to replay).
        limited: whether it takes a budget; other methods end by themselves.
        sees: turns the grid into what the method sees of it; None for the whole grid.
    """

    name: str
    summary: str
    set_up: Callable[[Problem], SetUp]
    needs: Needs = "nothing"
    limited: bool = True
    sees: Callable[[Grid], Grid] | None = None


def of_plan(build: Callable[[Problem], Plan]) -> Callable[[Problem], SetUp]:
    """The set-up of a plan that compares no models, with the package's sampler and pruner."""

    def prepare(problem: Problem) -> SetUp:
        plan = build(problem)
        return SetUp(
            plan,
            CkaClusterSampler(plan, seed=problem.seed),
            LogLinearHalvingPruner(plan),
            PlanSteering(plan),
            Costs(),
            Costs(),
        )

    return prepare


def _ours(name: str) -> Callable[[Problem], SetUp]:
    """The set-up of a method of the package, with its defaults."""

    def prepare(problem: Problem) -> SetUp:
        return set_up(problem.grid, name, method_settings(name), problem.seed, problem.full_runs)

    return prepare


def _asha(eta: int) -> Callable[[Problem], Plan]:
    def build(problem: Problem) -> Plan:
        ranker = Ranker(problem.tree, problem.grid.full_samples)
        return AshaPlan(
            problem.tree,
            problem.rungs,
            ranker,
            eta=eta,
            seed=problem.seed,
            budget=problem.budget,
        )

    return build


def _oboe(*, finish: bool) -> Callable[[Problem], Plan]:
    def build(problem: Problem) -> Plan:
        return OboePlan(
            problem.tree,
            problem.rungs,
            ratios=OBOE_RATIOS,
            finish=finish,
            seed=problem.seed,
            budget=problem.budget,
        )

    return build


def _oboe_tasks(*, finish: bool) -> Callable[[Problem], Plan]:
    def build(problem: Problem) -> Plan:
        return OboeTasksPlan(
            problem.tree,
            problem.rungs,
            problem.others,
            ratio=OBOE_RATIOS[-1],
            finish=finish,
            seed=problem.seed,
            budget=problem.budget,
        )

    return build


_ROWS = (
    Method("joint", "the package's joint search", _ours("joint")),
    Method(
        "joint-top-two", "the same model; jobs by top-two Thompson sampling", joint_methods.top_two
    ),
    Method(
        "joint-variance",
        "the same model; jobs by the fall of the weighted variance per cost",
        joint_methods.variance,
    ),
    Method(
        "joint-no-sharing",
        "pairs share nothing but the mean curve, as in freeze-thaw; jobs chosen as by `joint`",
        joint_methods.no_sharing,
    ),
    Method("mordal", "the package's clusters and race", _ours("mordal")),
    Method("mordal-to-its-end", "`mordal` without a limit", _ours("mordal"), limited=False),
    Method("all-at-ratio", "every pair at 1/8", _ours("all-at-ratio"), limited=False),
    Method("cross", "one row and one column of the grid", _ours("cross"), limited=False),
    Method("asha-2", "ASHA, eta 2", of_plan(_asha(2))),
    Method("asha-3", "ASHA, eta 3", of_plan(_asha(3))),
    Method("asha-4", "ASHA, eta 4", of_plan(_asha(4))),
    Method("oboe", "low rank, D-optimal design, then the best fully", of_plan(_oboe(finish=True))),
    Method(
        "oboe-no-finish",
        "the same, all of the budget for the design",
        of_plan(_oboe(finish=False)),
    ),
    Method(
        "oboe-tasks",
        "OBOE with the whole grids of the other tasks given for nothing",
        of_plan(_oboe_tasks(finish=True)),
        needs="other tasks",
    ),
    Method(
        "oboe-tasks-no-finish",
        "the same, all of the budget for the design",
        of_plan(_oboe_tasks(finish=False)),
        needs="other tasks",
    ),
    Method(
        "optuna-tpe-hyperband",
        "stock Optuna: TPE and Hyperband",
        _ours("optuna-tpe-hyperband"),
        needs="a study",
    ),
    Method(
        "optuna-random-halving",
        "stock Optuna: random order and its pruner by successive halving",
        _ours("optuna-random-halving"),
        needs="a study",
    ),
)
METHODS: dict[str, Method] = {method.name: method for method in _ROWS}
