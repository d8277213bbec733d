"""The pruner: stops a candidate when the plan has no further job for it now."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from optuna.pruners import BasePruner

from mordal_optuna.errors import SearchError
from mordal_optuna.search.bounds import require
from mordal_optuna.search.history import HistoryReader, candidate_of
from mordal_optuna.search.plan import Plan, may_continue
from mordal_optuna.search.sampler import CkaClusterSampler, study_history
from mordal_optuna.search.trial_failures import wrong_report

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.history import History


class LogLinearHalvingPruner(BasePruner):
    """Successive halving over clusters, then log-linear curves, as a plan decides.

    `prune` only reads: it stores nothing. A stopped candidate may be promoted later, in a new
    trial with the same parameters, if the study's sampler is a `CkaClusterSampler`. Other samplers
    may never propose the candidate again; with them a candidate also continues while it is among
    the best 1/eta of the candidates scored so far at its highest rung (asynchronous successive
    halving, Li et al. 2020).

    Example:
        ```python
        pruner = LogLinearHalvingPruner(plan)
        study = optuna.create_study(direction="maximize", sampler=TPESampler(), pruner=pruner)
        ```
    """

    def __init__(self, plan: Plan, *, eta: int = 2) -> None:
        """Create a pruner.

        Args:
            plan: plan that decides, the same as the sampler's; see `mordal_optuna.search.plan`.
            eta: with a sampler other than `CkaClusterSampler`, candidates that compete for one
                place, at least 2.

        Raises:
            SearchError: if eta is out of its range.
        """
        require(eta >= 2, "eta", eta, "at least 2")
        self._plan = plan
        self._eta = eta
        self._reader = HistoryReader(plan)

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether to stop a trial now; never before its first report.

        Raises:
            SearchError: if the trial reported a value outside 0..1, or the study's trials chose
                from another pool.
        """
        candidate = candidate_of(trial)
        if candidate is None or trial.last_step is None:
            return False
        wrong = wrong_report(trial)
        if wrong:
            raise SearchError(wrong)
        return self.stops(
            study, study_history(study, reader=self._reader), candidate, trial.last_step
        )

    def stops(self, study: Study, history: History, candidate: Candidate, samples: int) -> bool:
        """Whether to stop a candidate, given a history that is already read.

        Args:
            study: the study; its sampler decides whether stopped candidates are promoted later.
            history: history of the study, including the score at `samples`.
            candidate: the pair.
            samples: highest rung of the candidate's running trial.
        """
        if may_continue(self._plan, history, candidate, samples):
            return False
        promotes = isinstance(study.sampler, CkaClusterSampler)
        return promotes or not self._is_promising(history, candidate)

    def _is_promising(self, history: History, candidate: Candidate) -> bool:
        """Whether a candidate is not fully trained, and among the best 1/eta at its highest rung.

        The highest rung of all its trials counts: a trial that trains the pair again from scratch
        gives no new information below that rung.
        """
        top = history.of(candidate).top
        if top >= self._plan.rungs[-1]:
            return False
        scores = {c: at.score for c, r in history.candidates.items() if (at := r.at(top))}
        better = sum(score > scores[candidate] for score in scores.values())
        return better < math.ceil(len(scores) / self._eta)
