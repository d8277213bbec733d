"""The method `random`: candidates in random order, each trained fully."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mordal_optuna.search.methods.listed import ListPlan

if TYPE_CHECKING:
    from mordal_optuna.search.methods.options import PlanInputs


def build(inputs: PlanInputs) -> ListPlan:
    """The plan of `random`; it ends with the budget, or once every candidate is trained."""
    tree, full = inputs.tree, inputs.full_samples
    order = np.random.default_rng(inputs.seed).permutation(len(tree.candidates))
    shuffled = [tree.candidates[n] for n in order]
    return ListPlan(
        tree, shuffled, (full,), full, inputs.ranker(), stage="random", budget=inputs.budget
    )
