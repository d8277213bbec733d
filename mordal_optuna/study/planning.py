"""The search plan that a study file describes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mordal_optuna.errors import ConfigError, SearchError
from mordal_optuna.search.clusters import ClusterTree
from mordal_optuna.search.methods.building import build_plan

if TYPE_CHECKING:
    from mordal_optuna.config import StudySettings
    from mordal_optuna.search.plan import Plan
    from mordal_optuna.study.result import Representation


def study_plan(
    settings: StudySettings, full_samples: int, representation: Representation | None
) -> Plan:
    """The search plan that a study file describes.

    Args:
        settings: the study file's settings.
        full_samples: D, the number of samples of one full alignment.
        representation: comparison of the models; None if the method does not use one.

    Raises:
        ConfigError: if the ratios of the study file give too few rungs.
    """
    pool = settings.models()
    tree = (
        representation.tree
        if representation
        else ClusterTree.flat(pool.encoder_names, pool.llm_names)
    )
    try:
        return build_plan(
            settings.search,
            tree,
            full_samples,
            batch_size=settings.alignment.batch_size,
            seed=settings.seed,
            spent_seconds=sum(representation.seconds.values()) if representation else 0.0,
            tasks=settings.task_weights,
        )
    except SearchError as error:
        raise ConfigError([f"search: {error}"]) from error
