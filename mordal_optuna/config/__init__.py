"""The study file: its schema and how it is read."""

from mordal_optuna.config.reading import differences, parse_study, read_study, with_method
from mordal_optuna.config.schema import (
    FAITHFUL,
    FAITHFUL_SIMILARITY,
    AlignmentSettings,
    CheckpointSettings,
    DatasetSettings,
    LoraSettings,
    Method,
    ModelSettings,
    PoolSettings,
    RepresentationSettings,
    RuntimeSettings,
    SearchSettings,
    Section,
    StudySettings,
    TaskSettings,
    ZooSettings,
)

__all__ = [
    "AlignmentSettings",
    "CheckpointSettings",
    "DatasetSettings",
    "FAITHFUL",
    "FAITHFUL_SIMILARITY",
    "LoraSettings",
    "Method",
    "ModelSettings",
    "PoolSettings",
    "RepresentationSettings",
    "RuntimeSettings",
    "SearchSettings",
    "Section",
    "StudySettings",
    "TaskSettings",
    "ZooSettings",
    "differences",
    "parse_study",
    "read_study",
    "with_method",
]
