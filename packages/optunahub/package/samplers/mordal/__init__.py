"""Sampler and pruner of mordal-optuna: the best pair of two pretrained models, for few trainings.

Everything is imported from the package mordal-optuna (see requirements.txt). Importing it loads
Optuna, numpy and scipy, and no torch.
"""

from mordal_optuna import (
    Candidate,
    CkaClusterSampler,
    ClusterTree,
    LogLinearHalvingPruner,
    MordalPlan,
    cluster_pool,
)
from mordal_optuna.search.budget import Budget
from mordal_optuna.search.finish import Finish

__all__ = [
    "Budget",
    "Candidate",
    "CkaClusterSampler",
    "ClusterTree",
    "Finish",
    "LogLinearHalvingPruner",
    "MordalPlan",
    "cluster_pool",
]
