"""The pruner: stops a candidate when a plan has no further job for it now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optuna.pruners import BasePruner

from mordal_optuna.search.history import HistoryReader, candidate_of
from mordal_optuna.search.plan import Plan, verdict
from mordal_optuna.search.sampler import study_history

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial


class LogLinearHalvingPruner(BasePruner):
    """Successive halving over clusters, then log-linear curves, as a plan asks for.

    `prune` is a query: it writes nothing and keeps nothing. A stopped candidate is not lost: the
    plan may promote it later, in a new trial with the same parameters.

    Example:
        ```python
        pruner = LogLinearHalvingPruner(plan)
        study = optuna.create_study(direction="maximize", sampler=TPESampler(), pruner=pruner)
        ```
    """

    def __init__(self, plan: Plan) -> None:
        """Prune for a plan; give the sampler the same one.

        Args:
            plan: decides; see `mordal_optuna.search.plan`.
        """
        self._plan = plan
        self._reader = HistoryReader()

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether to stop now. Never before the trial's first report."""
        candidate = candidate_of(trial)
        if candidate is None or trial.last_step is None:
            return False
        history = study_history(study, reader=self._reader)
        return not verdict(self._plan, history, candidate, trial.last_step)
