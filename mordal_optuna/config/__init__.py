"""The study file: its schema, its defaults, and how it is read."""

from mordal_optuna.config.adaptation import adapted, as_begun, kept_as_given
from mordal_optuna.config.alignment import AlignmentSettings, DatasetSettings, LoraSettings
from mordal_optuna.config.base import Section
from mordal_optuna.config.evaluation import EvaluationSettings
from mordal_optuna.config.models import (
    EncoderSettings,
    LlmSettings,
    ModelSettings,
    PoolSettings,
)
from mordal_optuna.config.places import CheckpointSettings, RuntimeSettings, ZooSettings
from mordal_optuna.config.reading import (
    differences,
    growth_problems,
    parse_study,
    read_study,
    with_method,
)
from mordal_optuna.config.schema import (
    FAITHFUL,
    RepresentationSettings,
    SearchSettings,
    StudySettings,
)
from mordal_optuna.config.tasks import EarlyDocuments, TaskSettings, WeightedTask

__all__ = [
    "AlignmentSettings",
    "CheckpointSettings",
    "DatasetSettings",
    "EarlyDocuments",
    "EncoderSettings",
    "EvaluationSettings",
    "FAITHFUL",
    "LlmSettings",
    "LoraSettings",
    "ModelSettings",
    "PoolSettings",
    "RepresentationSettings",
    "RuntimeSettings",
    "SearchSettings",
    "Section",
    "StudySettings",
    "TaskSettings",
    "WeightedTask",
    "ZooSettings",
    "adapted",
    "as_begun",
    "differences",
    "growth_problems",
    "kept_as_given",
    "parse_study",
    "read_study",
    "with_method",
]
