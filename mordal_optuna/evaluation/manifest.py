"""What lmms-eval finds under the entry point `lmms_eval.models`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmms_eval.models.registry_v2 import ModelManifest


def manifest() -> ModelManifest:
    """The model `mordal_vlm`.

    A function, since importing lmms-eval's registry loads all entry points: with the import at
    the top, whoever imported this module first would hide it from the registry.
    """
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(
        model_id="mordal_vlm", chat_class_path="mordal_optuna.evaluation.model.MordalVLM"
    )
