"""The manifest names a class that exists."""

from __future__ import annotations

from importlib import import_module

from mordal_optuna.evaluation.guards import import_lmms_eval
from mordal_optuna.evaluation.manifest import manifest


def test_the_class_path_resolves_to_a_chat_model() -> None:
    import_lmms_eval()
    module, _, name = manifest().chat_class_path.rpartition(".")
    found = getattr(import_module(module), name)
    assert found.is_simple is False
    assert manifest().model_id == "mordal_vlm"
