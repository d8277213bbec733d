"""What lmms-eval finds under the entry point `lmms_eval.models`."""

from __future__ import annotations

from lmms_eval.models.registry_v2 import ModelManifest

MANIFEST = ModelManifest(
    model_id="mordal_vlm", chat_class_path="mordal_optuna.evaluation.model.MordalVLM"
)
