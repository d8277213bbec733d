"""The method `grid`: every candidate on all rungs, the ground truth for other methods."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mordal_optuna.search.methods.listed import ListPlan
from mordal_optuna.search.ranking import Ranker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mordal_optuna.search.clusters import ClusterTree
    from mordal_optuna.search.history import History
    from mordal_optuna.search.methods.options import PlanInputs
    from mordal_optuna.search.ranking import Estimate


class GridPlan(ListPlan):
    """Every candidate on all rungs; the ranking orders trained pairs by their own scores.

    With a ranker by the joint model, the method is a plain `ListPlan`.
    """

    def ranking(self, history: History) -> tuple[Estimate, ...]:
        """Estimates of the trained pairs, each from its own scores, best first; then the rest."""
        trained = self._ranker.rank_trained(history)
        seen = {estimate.candidate for estimate in trained}
        rest = [e for e in self._ranker.rank(history) if e.candidate not in seen]
        return (*trained, *rest)


def build(inputs: PlanInputs) -> ListPlan:
    """The plan of `grid`: the rungs up to R, then the full alignment."""
    tree, full = inputs.tree, inputs.full_samples
    rungs = tuple(dict.fromkeys((*inputs.rungs, full)))
    kind = ListPlan if inputs.ranks_jointly else GridPlan
    return kind(
        tree,
        tree.candidates,
        rungs,
        full,
        Ranker(
            tree,
            full,
            confidence=inputs.options.confidence,
            points=inputs.options.fit_points,
        ),
        stage="grid",
        budget=inputs.budget,
    )


def grid_plan(tree: ClusterTree, rungs: Sequence[int]) -> GridPlan:
    """A grid over given rungs, without a budget.

    Args:
        tree: the pool.
        rungs: strictly ascending sample counts; the last is a full alignment.
    """
    ranker = Ranker(tree, rungs[-1])
    return GridPlan(tree, tree.candidates, rungs, rungs[-1], ranker, stage="grid")
