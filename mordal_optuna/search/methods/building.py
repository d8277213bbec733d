"""Building the plan of any method by its name."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

from mordal_optuna.errors import SearchError
from mordal_optuna.search.budget import Budget
from mordal_optuna.search.methods.catalogue import METHODS
from mordal_optuna.search.methods.options import PlanInputs, build_finish
from mordal_optuna.search.rungs import build_rungs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mordal_optuna.search.clusters import ClusterTree
    from mordal_optuna.search.methods.options import PlanOptions
    from mordal_optuna.search.plan import Plan, PooledPlan


def build_plan(
    options: PlanOptions,
    tree: ClusterTree,
    full_samples: int,
    *,
    batch_size: int = 1,
    seed: int = 0,
    spent_seconds: float = 0.0,
    tasks: Mapping[str, float] | None = None,
) -> Plan:
    """The plan that a study file's `search` section asks for.

    Args:
        options: options of the search, such as the `search` section of a study file.
        tree: the pool; clustered if the method compares models.
        full_samples: samples of a full alignment, at least 1.
        batch_size: samples of a global batch, at least 1; every rung is a multiple of it.
        seed: random seed of the method.
        spent_seconds: device-seconds spent before the first trial, at least 0.
        tasks: weight of each target task by its name; None or empty if there is one.

    Raises:
        SearchError: if the method is unknown, an option is out of its range, or the ratios leave
            too few rungs.
    """
    if options.method not in METHODS:
        raise SearchError(f"method: got {options.method!r}; allowed are {', '.join(METHODS)}")
    rungs = build_rungs(
        full_samples,
        first_ratio=options.first_ratio,
        max_ratio=options.max_ratio,
        eta=options.eta,
        multiple=batch_size,
    )
    inputs = PlanInputs(
        options,
        tree,
        full_samples,
        rungs,
        build_finish(options, rungs[-1], full_samples, batch_size=batch_size),
        Budget(options.device_hours, spent_seconds),
        seed,
        tasks or {},
    )
    module, _, function = METHODS[options.method].builder.partition(":")
    build = cast("Callable[[PlanInputs], PooledPlan]", getattr(import_module(module), function))
    plan = build(inputs)
    plan.attempts = options.attempts
    return plan
