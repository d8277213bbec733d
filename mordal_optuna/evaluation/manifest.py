"""Manifest of the model plugin, loaded by lmms-eval from the entry point `lmms_eval.models`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmms_eval.models.registry_v2 import ModelManifest


def manifest() -> ModelManifest:
    """The manifest of the model `mordal_vlm`.

    The import is inside the function: importing lmms-eval's registry loads all entry points, so
    a top-level import would make the registry load this module while it is still incomplete.
    """
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(
        model_id="mordal_vlm", chat_class_path="mordal_optuna.evaluation.model.MordalVLM"
    )
