"""New studies with this package's sampler and pruner, as most tests need them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import optuna

from mordal_optuna.search.pruner import LogLinearHalvingPruner
from mordal_optuna.search.sampler import CkaClusterSampler

if TYPE_CHECKING:
    from mordal_optuna.search.plan import Plan


def new_study(plan: Plan) -> optuna.Study:
    """A study in memory that maximises the score along a plan."""
    return optuna.create_study(
        direction="maximize",
        sampler=CkaClusterSampler(plan),
        pruner=LogLinearHalvingPruner(plan),
    )
