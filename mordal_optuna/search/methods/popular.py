"""The method `popular`: one pair, trained fully."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mordal_optuna.errors import SearchError
from mordal_optuna.pool import Candidate
from mordal_optuna.search.methods.listed import ListPlan
from mordal_optuna.search.rankers import OneByOneRanker

if TYPE_CHECKING:
    from mordal_optuna.search.clusters import ClusterTree
    from mordal_optuna.search.methods.options import PlanInputs


def build(inputs: PlanInputs) -> ListPlan:
    """The plan of `popular`.

    Pairs are ranked one by one, so that one score says the same of all other pairs.
    """
    tree, full = inputs.tree, inputs.full_samples
    pair = popular_pair(tree, inputs.options.popular)
    ranker = OneByOneRanker(tree, full, confidence=inputs.options.confidence)
    return ListPlan(tree, (pair,), (full,), full, ranker, stage="popular", budget=inputs.budget)


def popular_pair(tree: ClusterTree, named: tuple[str, str] | None) -> Candidate:
    """The popular pair.

    Args:
        tree: the pool.
        named: encoder and LLM; None takes the first of each in the pool.

    Raises:
        SearchError: if the pool does not have the named pair.
    """
    encoder, llm = named or (tree.vision_encoders[0], tree.llms[0])
    if encoder not in tree.vision_encoders or llm not in tree.llms:
        raise SearchError(
            f"the popular pair {encoder!r} + {llm!r} is not in the pool; encoders are "
            f"{', '.join(tree.vision_encoders)}, LLMs {', '.join(tree.llms)}"
        )
    return Candidate(encoder, llm)
