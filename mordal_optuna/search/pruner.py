"""The pruner: stops a candidate when a plan has no further job for it now."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from optuna.pruners import BasePruner

from mordal_optuna.errors import SearchError
from mordal_optuna.search.history import HistoryReader, candidate_of
from mordal_optuna.search.plan import Plan, verdict
from mordal_optuna.search.sampler import CkaClusterSampler, study_history, wrong_report

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.history import History


class LogLinearHalvingPruner(BasePruner):
    """Successive halving over clusters, then log-linear curves, as a plan asks for.

    `prune` is a query: it writes nothing and keeps nothing. A stopped candidate is not lost: the
    plan may promote it later, in a new trial with the same parameters, where a
    `CkaClusterSampler` proposes it. Another sampler may never come back to it, so beside one a
    candidate also goes on while it is among the best 1/eta of those scored so far at the highest
    rung that it is known at (asynchronous successive halving, Li et al. 2020).

    Example:
        ```python
        pruner = LogLinearHalvingPruner(plan)
        study = optuna.create_study(direction="maximize", sampler=TPESampler(), pruner=pruner)
        ```
    """

    def __init__(self, plan: Plan, *, eta: int = 2) -> None:
        """Prune for a plan; give the sampler the same one.

        Args:
            plan: decides; see `mordal_optuna.search.plan`.
            eta: beside another sampler, candidates that compete for one place; at least 2.
        """
        self._plan = plan
        self._eta = eta
        self._reader = HistoryReader(plan)

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether to stop now. Never before the trial's first report.

        Raises:
            SearchError: if the trial reported what is no score, or the study's trials chose from
                another pool.
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
        """Whether a candidate that was scored at `samples` is stopped, by a history that is known.

        Args:
            study: its sampler says whether stopped candidates are promoted later.
            history: of the study, the score included.
            candidate: the pair.
            samples: its highest rung in its running trial.
        """
        if verdict(self._plan, history, candidate, samples):
            return False
        promotes = isinstance(study.sampler, CkaClusterSampler)
        return promotes or not self._is_promising(history, candidate)

    def _is_promising(self, history: History, candidate: Candidate) -> bool:
        """Whether it is not fully trained, and among the best 1/eta at its highest rung.

        A trial that trains a pair anew shows nothing new before that rung.
        """
        top = history.of(candidate).top
        if top >= self._plan.rungs[-1]:
            return False
        scores = {c: at.score for c, k in history.candidates.items() if (at := k.at(top))}
        better = sum(score > scores[candidate] for score in scores.values())
        return better < math.ceil(len(scores) / self._eta)
