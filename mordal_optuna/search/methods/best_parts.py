"""The method `best-parts`: the best encoder and the best LLM, found separately, then combined.

Symbols:
    M, L   encoders and LLMs of the pool
    D      samples of a full alignment
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mordal_optuna.pool import Candidate
from mordal_optuna.search.jobs import Job, usable
from mordal_optuna.search.methods.cross import row_and_column
from mordal_optuna.search.methods.listed import ListPlan
from mordal_optuna.search.methods.popular import popular_pair
from mordal_optuna.search.rankers import AdditiveRanker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mordal_optuna.search.budget import Budget
    from mordal_optuna.search.clusters import ClusterTree
    from mordal_optuna.search.history import History
    from mordal_optuna.search.methods.options import PlanInputs
    from mordal_optuna.search.ranking import Ranker


def build(inputs: PlanInputs) -> BestPartsPlan:
    """The plan of `best-parts`."""
    tree, full, options = inputs.tree, inputs.full_samples, inputs.options
    popular = popular_pair(tree, options.popular)
    ranker = inputs.paper_ranker() or AdditiveRanker(
        tree,
        full,
        centre=popular,
        confidence=options.confidence,
        points=options.fit_points,
        joint=inputs.ranks_jointly,
        tasks=inputs.tasks,
    )
    return BestPartsPlan(tree, full, ranker, popular=popular, budget=inputs.budget)


class BestPartsPlan(ListPlan):
    """The best encoder and the best LLM, each searched with the other part held fixed.

    Every encoder is trained fully with the popular LLM and every LLM with the popular encoder,
    then the best encoder with the best LLM: M + L - 1 full runs, and one more if the combination
    is not among them. The winner is the best trained pair, which need not be the combination.
    """

    def __init__(
        self,
        tree: ClusterTree,
        full_samples: int,
        ranker: Ranker,
        *,
        popular: Candidate,
        budget: Budget | None = None,
    ) -> None:
        """Create a plan.

        Args:
            tree: the pool.
            full_samples: D.
            ranker: computes the estimates, such as an `AdditiveRanker` around the popular pair.
            popular: pair whose parts are held fixed.
            budget: limit of device time; by default none.
        """
        super().__init__(
            tree,
            row_and_column(tree, popular),
            (full_samples,),
            full_samples,
            ranker,
            stage="parts",
            budget=budget,
        )
        self._popular = popular

    def search_jobs(self, history: History) -> Sequence[Job]:
        """The row and the column of the popular pair; then the combination of the best parts."""
        jobs = super().search_jobs(history)
        if jobs:
            return jobs
        full, combined = self._rungs[-1], self._combination(history)
        if combined is None:
            return []
        record = history.of(combined)
        return (
            [Job(combined, full, "combination")] if usable(record) and not record.at(full) else []
        )

    def _combination(self, history: History) -> Candidate | None:
        """The best encoder with the best LLM; the first of equals; None if either has no score."""
        full, popular = self._rungs[-1], self._popular
        encoders = {
            v: measurement.score
            for v in self.vision_encoders
            if (measurement := history.of(Candidate(v, popular.llm)).at(full))
        }
        llms = {
            m: measurement.score
            for m in self.llms
            if (measurement := history.of(Candidate(popular.vision_encoder, m)).at(full))
        }
        if not (encoders and llms):
            return None
        return Candidate(max(encoders, key=encoders.__getitem__), max(llms, key=llms.__getitem__))
