"""A study that grows from an earlier one."""

from __future__ import annotations

from typing import Any

import optuna
from optuna.storages import InMemoryStorage

from mordal_optuna.search.clusters import ClusterTree

# One more encoder and one more LLM, in another order, and without dino.
GROWN = ClusterTree.flat(("vit", "siglip", "clip"), ("qwen", "llama", "mistral", "phi"))


def successor(earlier: optuna.Study, storage: Any = None) -> optuna.Study:
    """The study that extends an earlier one, empty or as it is there."""
    return optuna.create_study(
        study_name="grown",
        storage=storage or InMemoryStorage(),
        direction=earlier.direction,
        load_if_exists=True,
    )
