"""The method `cross`: one row and one column of the grid; the rest is estimated additively."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mordal_optuna.pool import Candidate
from mordal_optuna.search.methods.listed import ListPlan
from mordal_optuna.search.rankers import AdditiveRanker

if TYPE_CHECKING:
    from mordal_optuna.search.clusters import ClusterTree
    from mordal_optuna.search.methods.options import PlanInputs


def build(inputs: PlanInputs) -> ListPlan:
    """The plan of `cross`: the cross on the p highest rungs up to R, then the finish."""
    tree, options = inputs.tree, inputs.options
    centre = cross_centre(tree)
    ranker = inputs.paper_ranker() or AdditiveRanker(
        tree,
        inputs.full_samples,
        centre=centre,
        confidence=options.confidence,
        points=options.fit_points,
        joint=inputs.ranks_jointly,
        tasks=inputs.tasks,
    )
    return ListPlan(
        tree,
        row_and_column(tree, centre),
        inputs.rungs[-options.fit_points :],
        inputs.full_samples,
        ranker,
        stage="cross",
        finish=inputs.finish,
        untrained_finalists=True,
        budget=inputs.budget,
    )


def cross_centre(tree: ClusterTree) -> Candidate:
    """The medoid of the largest cluster, by number of encoders, then by number of LLMs."""
    return max(tree.clusters, key=lambda c: (len(c.vision.members), len(c.llm.members))).medoid


def row_and_column(tree: ClusterTree, centre: Candidate) -> tuple[Candidate, ...]:
    """The pairs that share a part with the centre.

    Returns:
        The centre, its encoder with all LLMs, its LLM with all encoders; each pair once.
    """
    row = [Candidate(centre.vision_encoder, llm) for llm in tree.llms]
    column = [Candidate(encoder, centre.llm) for encoder in tree.vision_encoders]
    return tuple(dict.fromkeys((centre, *row, *column)))
