"""What a method builds its plan from: the options of a study file's `search` section and the pool.

Symbols:
    R    max_ratio, the largest share of the alignment set before the finish
    D    samples of a full alignment
    p    rungs that a curve is fitted to
    eta  factor between rungs
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from mordal_optuna.search.finish import Finish
from mordal_optuna.search.rankers import LikelihoodRanker, OneByOneRanker, PaperRanker
from mordal_optuna.search.ranking import Ranker
from mordal_optuna.search.rungs import build_rungs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mordal_optuna.search.budget import Budget
    from mordal_optuna.search.clusters import ClusterTree


class StopOptions(Protocol):
    """When the method `joint` ends before its budget is spent; None sets no bound."""

    @property
    def expected_regret(self) -> float | None:
        """Expected regret of the leader at which the search ends, 0 to 1."""
        ...

    @property
    def probability(self) -> float | None:
        """Probability of the leader being the best at which the search ends, 0 to 1."""
        ...


class PlanOptions(Protocol):
    """Options of a search, named as in a study file; `config.SearchSettings` has all of them."""

    @property
    def method(self) -> str:
        """Name of the method, a key of `catalogue.METHODS`."""
        ...

    @property
    def first_ratio(self) -> float:
        """Smallest share of D at which candidates are scored, above 0 and at most R."""
        ...

    @property
    def max_ratio(self) -> float:
        """R, above 0 and at most 1."""
        ...

    @property
    def eta(self) -> int:
        """Factor between rungs, and clusters or finalists that compete for one place."""
        ...

    @property
    def top_clusters(self) -> int:
        """Clusters that survive the halving, at least 1."""
        ...

    @property
    def fit_points(self) -> int:
        """p, at least 2."""
        ...

    @property
    def max_fit_loss(self) -> float | None:
        """The paper's largest mean squared residual of an accepted fit; None accepts all fits."""
        ...

    @property
    def finalists(self) -> int:
        """Largest number of candidates trained beyond R, at least 0."""
        ...

    @property
    def finish(self) -> str:
        """`race` or `full`."""
        ...

    @property
    def train_winner(self) -> bool:
        """Whether the winner of a race is trained on D samples."""
        ...

    @property
    def curve(self) -> str:
        """What curves are fitted to, `error` or `likelihood`."""
        ...

    @property
    def confidence(self) -> float:
        """Confidence level of all intervals, above 0 and below 1."""
        ...

    @property
    def device_hours(self) -> float | None:
        """Budget in device-hours, above 0; None sets no limit."""
        ...

    @property
    def popular(self) -> tuple[str, str] | None:
        """Encoder and LLM of the popular pair; None is the first of each in the pool."""
        ...

    @property
    def compare(self) -> str:
        """Models that are compared, `auto`, `all`, `encoders` or `none`."""
        ...

    @property
    def ranker(self) -> str:
        """How the whole pool is ranked, `joint` or `own`."""
        ...

    @property
    def attempts(self) -> int:
        """Number of failures after which a candidate is given up, at least 1."""
        ...

    @property
    def start_pairs(self) -> int:
        """Pairs with each model of the larger side in the start of `joint`, at least 1."""
        ...

    @property
    def start_ratio(self) -> float | None:
        """Share of D that pairs of the start are trained on, above 0 and at most 1, or None."""
        ...

    @property
    def round_size(self) -> int:
        """Jobs that `joint` chooses at once, at least 1."""
        ...

    @property
    def round_lag(self) -> int:
        """Latest rounds whose scores a round of `joint` does not wait for, at least 0."""
        ...

    @property
    def score_tasks(self) -> str:
        """Tasks that `joint` scores at a rung, `all` or `useful`."""
        ...

    @property
    def stop(self) -> StopOptions:
        """When `joint` ends before its budget is spent."""
        ...


@dataclass(frozen=True)
class PlanInputs:
    """Everything that the builder of a method's plan receives.

    Attributes:
        options: options of the search.
        tree: the pool; clustered if the method compares models.
        full_samples: D.
        rungs: rungs up to R in samples, ascending.
        finish: the finish that the options ask for.
        budget: limit of device time.
        seed: random seed of the method.
        tasks: weight of each target task by its name; empty if there is one. A method need not
            read it: the scores of a study with several tasks are weighted means already.
    """

    options: PlanOptions
    tree: ClusterTree
    full_samples: int
    rungs: tuple[int, ...]
    finish: Finish
    budget: Budget
    seed: int
    tasks: Mapping[str, float] = field(default_factory=dict)

    def ranker(self) -> Ranker:
        """The ranker that the options ask for."""
        paper = self.paper_ranker()
        if paper:
            return paper
        confidence, points = self.options.confidence, self.options.fit_points
        if self.options.curve != "likelihood" and self.ranks_jointly:
            return Ranker(
                self.tree,
                self.full_samples,
                confidence=confidence,
                points=points,
                tasks=self.tasks,
            )
        kind = LikelihoodRanker if self.options.curve == "likelihood" else OneByOneRanker
        return kind(
            self.tree,
            self.full_samples,
            confidence=confidence,
            points=points,
            joint=self.ranks_jointly,
            tasks=self.tasks,
        )

    @property
    def ranks_jointly(self) -> bool:
        """Whether the whole pool is ranked by the joint model."""
        return self.options.ranker == "joint"

    def paper_ranker(self) -> PaperRanker | None:
        """The paper's ranker if the options ask for its acceptance rule, else None."""
        if self.options.max_fit_loss is None:
            return None
        return PaperRanker(
            self.tree,
            self.full_samples,
            delta=self.options.max_fit_loss,
            confidence=self.options.confidence,
            points=self.options.fit_points,
            joint=self.ranks_jointly,
            tasks=self.tasks,
        )


def build_finish(
    options: PlanOptions, highest: int, full_samples: int, *, batch_size: int = 1
) -> Finish:
    """The finish that the options of a search ask for.

    Args:
        options: options of the search.
        highest: R, in samples.
        full_samples: D.
        batch_size: samples of a global batch; every rung is a multiple of it.
    """
    if options.finish == "full" or highest == full_samples:
        return Finish(options.finalists)
    # Built downwards from D, so that the step after the last race rung is D itself. The lowest
    # race rung is at least half a step (a factor of sqrt(eta)) above R.
    above = build_rungs(
        full_samples,
        first_ratio=min(1.0, highest * options.eta**0.5 / full_samples),
        max_ratio=1.0,
        eta=options.eta,
        multiple=batch_size,
    )
    race = tuple(rung for rung in above[:-1] if rung > highest)
    return Finish(options.finalists, race, options.eta, options.train_winner)
