"""The method `all-at-ratio`: every candidate once, at the largest ratio; then the finish."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mordal_optuna.search.methods.listed import ListPlan

if TYPE_CHECKING:
    from mordal_optuna.search.methods.options import PlanInputs


def build(inputs: PlanInputs) -> ListPlan:
    """The plan of `all-at-ratio`."""
    return ListPlan(
        inputs.tree,
        inputs.tree.candidates,
        inputs.rungs[-1:],
        inputs.full_samples,
        inputs.ranker(),
        stage="all-at-ratio",
        finish=inputs.finish,
        budget=inputs.budget,
    )
