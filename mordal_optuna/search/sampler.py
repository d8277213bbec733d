"""The sampler: proposes the candidate of the next job of a plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study, StudyDirection

from mordal_optuna.pool import Candidate
from mordal_optuna.search.history import HistoryReader
from mordal_optuna.search.plan import Finished, Job, Plan, next_job
from mordal_optuna.search.space import PairSpace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial, TrialState

    from mordal_optuna.search.history import History

STOPPED_BECAUSE = "mordal:stopped_because"


class CkaClusterSampler(BaseSampler):
    """Samples `vision_encoder` and `llm` in the order a plan over CKA clusters asks for.

    Holds no state of the search: every call reads the study's trials. When the plan has nothing
    left to do it stops the study and says why in the user attribute `mordal:stopped_because`; a
    trial that is created after that gets the leading candidate.

    Example:
        ```python
        sampler = CkaClusterSampler(MordalPlan(tree, rungs=(512, 1024, 2048), full_samples=16384))
        study = optuna.create_study(direction="maximize", sampler=sampler)
        ```
    """

    def __init__(
        self,
        plan: Plan,
        *,
        independent_sampler: BaseSampler | None = None,
        seed: int | None = None,
    ) -> None:
        """Sample for a plan.

        Args:
            plan: decides; see `mordal_optuna.search.plan`.
            independent_sampler: samples every parameter other than the pair; a `RandomSampler`
                by default.
            seed: of that default sampler. The pair itself is not random.
        """
        self._plan = plan
        self._other = independent_sampler or RandomSampler(seed=seed)
        self._reader = HistoryReader()
        self._space = PairSpace(plan.vision_encoders, plan.llms)

    def reseed_rng(self) -> None:
        """Reseed the sampler of the other parameters, as Optuna does in every new thread."""
        self._other.reseed_rng()

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """The pair, and whatever the other sampler wants to sample jointly."""
        space = dict(self._other.infer_relative_search_space(study, trial))
        return {**space, **self._space.distributions}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The pair of the next job, with the other sampler's values beside it."""
        own = self._space.distributions
        rest = {k: v for k, v in search_space.items() if k not in own}
        values = dict(self._other.sample_relative(study, trial, rest))
        candidate = self._propose(study_history(study, exclude=trial.number, reader=self._reader))
        return {**values, **self._space.values(candidate)}

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Every parameter other than the pair, by the other sampler."""
        return self._other.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Forwarded to the other sampler."""
        self._other.before_trial(study, trial)

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Stop the study once the plan has nothing left to do."""
        self._other.after_trial(study, trial, state, values)
        jobs = self._plan.jobs(study_history(study, reader=self._reader))
        if isinstance(jobs, Finished):
            Study.set_user_attr(study, STOPPED_BECAUSE, jobs.reason)
            _stop(study)

    def _propose(self, history: History) -> Candidate:
        job = next_job(self._plan, history)
        if isinstance(job, Job):
            return job.candidate
        jobs = self._plan.jobs(history)
        if not isinstance(jobs, Finished):
            return jobs[0].candidate  # others work on all of them: help with the most wanted one
        winner = self._plan.winner(history)
        if winner is None:
            return Candidate(self._plan.vision_encoders[0], self._plan.llms[0])
        return winner.candidate


def study_history(
    study: Study, *, exclude: int | None = None, reader: HistoryReader | None = None
) -> History:
    """The history of a study as stored now.

    Args:
        study: any study.
        exclude: number of a trial to leave out, such as the one being sampled for.
        reader: of the same study, to be quicker from the second call on.
    """
    # Called on the class on purpose, as above: Hyperband hands samplers and pruners a subclass
    # that shows one bracket's trials only and forbids user attributes. Plans need the whole.
    trials = Study.get_trials(study, deepcopy=False)
    minimize = study.direction == StudyDirection.MINIMIZE
    return (reader or HistoryReader()).read(trials, minimize=minimize, exclude=exclude)


def _stop(study: Study) -> None:
    try:
        study.stop()
    except RuntimeError:
        # Optuna raises it outside `optimize`: with ask and tell there is no loop to stop, and
        # the user attribute tells the caller.
        return
