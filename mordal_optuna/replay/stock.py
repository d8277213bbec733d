"""Stock Optuna as a competitor: its samplers and pruners on the same pool, data and budget.

It has the same advantages as the methods of this package: checkpoints are reused, so a candidate
that is proposed again repeats its earlier scores at no cost and continues from there.
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

from mordal_optuna.search.attributes import STOOD_BACK
from mordal_optuna.search.history import HistoryReader
from mordal_optuna.search.jobs import Finished, Job, Wait
from mordal_optuna.search.plan import PooledPlan
from mordal_optuna.search.sampler import study_history
from mordal_optuna.search.space import LLM, VISION_ENCODER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna import Study
    from optuna.trial import FrozenTrial, TrialState

    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.budget import Budget
    from mordal_optuna.search.clusters import ClusterTree
    from mordal_optuna.search.history import History
    from mordal_optuna.search.ranking import Ranker

SAMPLERS = ("tpe", "random", "grid")
PRUNERS = ("hyperband", "halving", "median", "none")
# Names of the stock methods; they can be replayed only.
STOCK = tuple(f"optuna-{sampler}-{pruner}" for sampler in SAMPLERS for pruner in PRUNERS)

# A sampler may propose fully trained candidates at no cost. After so many trials per candidate of
# the pool it is considered to have nothing new to propose.
_TRIALS_PER_CANDIDATE = 20


class StockPlan(PooledPlan):
    """Rungs, budget and ranking for a stock sampler and pruner, which choose the candidates.

    No job is ever wanted: `jobs` is empty until the search is over, so that candidates climb rung
    by rung (`plan.next_rung`) as far as the stock pruner lets them.
    """

    def __init__(
        self, tree: ClusterTree, rungs: Sequence[int], ranker: Ranker, budget: Budget
    ) -> None:
        """Create a plan.

        Args:
            tree: the pool.
            rungs: strictly ascending sample counts; the last is a full alignment.
            ranker: computes the estimates.
            budget: limit of device time.

        Raises:
            SearchError: if the rungs do not ascend.
        """
        super().__init__(tree, rungs, rungs[-1], ranker, budget=budget)

    @property
    def candidates(self) -> Sequence[Candidate]:
        """All pairs of the pool."""
        return self._tree.candidates

    def search_jobs(self, history: History) -> Sequence[Job]:  # noqa: ARG002
        """Empty: the stock sampler chooses."""
        return ()

    def jobs(self, history: History) -> Sequence[Job] | Finished:
        """Empty; `Finished` once every candidate is fully trained or the budget is spent."""
        if all(history.of(candidate).at(self.rungs[-1]) for candidate in self.candidates):
            return Finished("pool exhausted: every candidate fully trained")
        return self._budget.over(history) or self.search_jobs(history)


class StockSteering:
    """Starts another trial until the plan is finished or the sampler proposes nothing new."""

    def __init__(self, plan: StockPlan) -> None:
        self._plan = plan
        self._reader = HistoryReader(plan)

    def __call__(self, study: Study) -> Job | Wait | Finished:
        """A job if the budget has room for one; its candidate is ignored, the sampler chooses."""
        history = study_history(study, reader=self._reader)
        jobs = self._plan.jobs(history)
        if isinstance(jobs, Finished):
            return jobs
        if not self._plan.has_room(history):
            return Wait()
        candidates = self._plan.candidates
        # A trial that stood back for another worker has proposed nothing that could run.
        trials = (t for t in study.get_trials(deepcopy=False) if STOOD_BACK not in t.user_attrs)
        if sum(1 for _ in trials) >= _TRIALS_PER_CANDIDATE * len(candidates):
            return Finished(f"{_TRIALS_PER_CANDIDATE} trials for each candidate were run")
        return Job(candidates[0], self._plan.rungs[0], "stock")


def stock_sampler(name: str, plan: StockPlan, *, seed: int) -> BaseSampler:
    """The sampler of a stock method.

    Args:
        name: name of the method, such as `optuna-tpe-hyperband`.
        plan: plan whose pool is sampled.
        seed: random seed of the sampler.
    """
    match name.split("-")[1]:
        case "tpe":
            return TPESampler(seed=seed)
        case "random":
            return RandomSampler(seed=seed)
        case _:
            space = {VISION_ENCODER: list(plan.vision_encoders), LLM: list(plan.llms)}
            return _EndlessGrid(space, seed=seed)


def stock_pruner(name: str, plan: StockPlan, *, eta: int) -> BasePruner:
    """The pruner of a stock method, with the rungs as its resources.

    Args:
        name: name of the method, such as `optuna-tpe-hyperband`.
        plan: plan whose rungs are used.
        eta: reduction factor, at least 2.
    """
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
    """A grid sampler that never stops the study, which works only inside `study.optimize`."""

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Do nothing: the budget ends the search."""
