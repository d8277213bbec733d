"""Stock Optuna as a rival: its samplers and pruners on the same pool, data and budget.

They are given what our own methods have: checkpoints are reused, so a candidate proposed again
repeats its known scores at no cost and goes on from there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    SuccessiveHalvingPruner,
)
from optuna.samplers import BaseSampler, GridSampler, RandomSampler, TPESampler

from mordal_optuna.search.history import LLM, VISION_ENCODER, HistoryReader
from mordal_optuna.search.methods import ListPlan
from mordal_optuna.search.plan import Budget, Finished, Job, Wait
from mordal_optuna.search.sampler import study_history

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna import Study
    from optuna.trial import FrozenTrial, TrialState

    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.clusters import ClusterTree
    from mordal_optuna.search.history import History
    from mordal_optuna.search.ranking import Ranker

SAMPLERS = ("tpe", "random", "grid")
PRUNERS = ("hyperband", "halving", "median", "none")
STOCK = tuple(f"optuna-{sampler}-{pruner}" for sampler in SAMPLERS for pruner in PRUNERS)

# A sampler may propose what is fully trained already, at no cost; past so many trials for each
# candidate of the pool it is taken to have nothing new to propose.
_TRIALS_PER_CANDIDATE = 20


class StockPlan(ListPlan):
    """Gives the objective its rungs; who is trained is for the stock sampler and pruner to say."""

    def __init__(
        self, tree: ClusterTree, rungs: Sequence[int], ranker: Ranker, budget: Budget
    ) -> None:
        """Rungs up to D, and a budget."""
        super().__init__(
            tree, tree.candidates, rungs, rungs[-1], ranker, stage="stock", budget=budget
        )

    @property
    def candidates(self) -> Sequence[Candidate]:
        """The whole pool."""
        return self._candidates

    def jobs(self, history: History) -> Sequence[Job]:  # noqa: ARG002
        """None: it wants nobody in particular."""
        return ()

    def over(self, history: History) -> Finished | None:
        """Why the search ends: the budget, or everyone is fully trained."""
        if all(history.of(candidate).at(self.rungs[-1]) for candidate in self._candidates):
            return Finished("pool exhausted: every candidate fully trained")
        return self._budget.over(history)


class StockSteering:
    """Another trial, until the budget is spent or nothing new is proposed."""

    def __init__(self, plan: StockPlan) -> None:
        self._plan = plan
        self._reader = HistoryReader(plan)

    def __call__(self, study: Study) -> Job | Wait | Finished:
        """A job where the budget has room for one: which one, the sampler says."""
        history = study_history(study, reader=self._reader)
        over = self._plan.over(history)
        if over:
            return over
        if not self._plan.has_room(history):
            return Wait()
        pool = len(self._plan.vision_encoders) * len(self._plan.llms)
        if len(study.get_trials(deepcopy=False)) >= _TRIALS_PER_CANDIDATE * pool:
            return Finished(f"{_TRIALS_PER_CANDIDATE} trials for each candidate were run")
        return Job(self._plan.candidates[0], self._plan.rungs[0], "stock")


def stock_sampler(name: str, plan: StockPlan, *, seed: int) -> BaseSampler:
    """The sampler in a name such as `optuna-tpe-hyperband`."""
    match name.split("-")[1]:
        case "tpe":
            return TPESampler(seed=seed)
        case "random":
            return RandomSampler(seed=seed)
        case _:
            space = {VISION_ENCODER: list(plan.vision_encoders), LLM: list(plan.llms)}
            return _EndlessGrid(space, seed=seed)


def stock_pruner(name: str, plan: StockPlan, *, eta: int) -> BasePruner:
    """The pruner in such a name, its resources set to the rungs."""
    match name.split("-")[2]:
        case "hyperband":
            return HyperbandPruner(plan.rungs[0], plan.rungs[-1], eta)
        case "halving":
            return SuccessiveHalvingPruner(plan.rungs[0], reduction_factor=eta)
        case "median":
            return MedianPruner(n_startup_trials=5)
        case _:
            return NopPruner()


class _EndlessGrid(GridSampler):
    """Does not stop the study, which only works inside `study.optimize`; the budget does."""

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Do nothing."""
