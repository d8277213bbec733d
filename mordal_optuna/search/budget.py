"""The budget of a search in device time, with the expected cost of running jobs reserved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mordal_optuna.search.bounds import require
from mordal_optuna.search.jobs import Finished

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.history import CandidateHistory, History


@dataclass(frozen=True)
class Budget:
    """A limit of device time.

    The expected cost of a job is reserved when the job begins and replaced by the actual cost when
    it reports. A job that has begun is finished, so the budget is exceeded by the part of the last
    job that lies beyond it, and by whatever jobs take longer than expected.

    Attributes:
        device_hours: device time at which the search stops, above 0; None sets no limit.
        spent_seconds: device-seconds spent before the first trial (features, CKA, warm-up), at
            least 0.
    """

    device_hours: float | None = None
    spent_seconds: float = 0.0

    def __post_init__(self) -> None:
        """Check the bounds.

        Raises:
            SearchError: if a value is out of its range.
        """
        hours = self.device_hours
        require(hours is None or hours > 0, "device_hours", hours, "above 0")
        require(self.spent_seconds >= 0, "spent_seconds", self.spent_seconds, "at least 0")

    def over(self, history: History) -> Finished | None:
        """The end of the search once the budget is spent, None before."""
        if self.device_hours is None or self._left(history) > 0:
            return None
        return Finished(f"budget spent: {self.device_hours:g} device-hours")

    def has_room(
        self, history: History, rungs: Sequence[int], besides: Candidate | None = None
    ) -> bool:
        """Whether another job may begin beside the running ones.

        Until the first cost is known one job runs at a time, since the cost of others cannot be
        estimated.

        Args:
            history: history of the study.
            rungs: rungs of the plan, ascending.
            besides: candidate whose running job is not reserved, because it is the job in
                question; None reserves all running jobs.
        """
        if self.device_hours is None:
            return True
        running = [r for c, r in history.candidates.items() if r.running and c != besides]
        rates = _Rates.of(history) if running else None
        if rates is None:
            return not running and self._left(history) > 0
        return self._left(history) > sum(rates.remaining(record, rungs) for record in running)

    def _left(self, history: History) -> float:
        assert self.device_hours is not None
        return self.device_hours * 3600 - self.spent_seconds - history.seconds


@dataclass(frozen=True)
class _Rates:
    """Mean cost of the jobs of a pool so far.

    Attributes:
        training: device-seconds per sample where checkpoints are reused.
        evaluation: device-seconds per score.
        plain: device-seconds per sample of trials that report no costs and train from scratch.
    """

    training: float
    evaluation: float
    plain: float

    @staticmethod
    def of(history: History) -> _Rates | None:
        """Means over the pool; None before any cost is known."""
        records = history.candidates.values()
        scores = sum(len(r.rungs) for r in records)
        timed = [r for r in records if r.train_seconds]
        training = sum(r.train_seconds for r in timed) / (sum(r.top for r in timed) or 1)
        evaluation = sum(r.eval_seconds for r in records) / (scores or 1)
        plain = sum(r.other_seconds for r in records if r.trained)
        plain /= sum(r.trained for r in records) or 1
        return _Rates(training, evaluation, plain) if training or evaluation or plain else None

    def remaining(self, record: CandidateHistory, rungs: Sequence[int]) -> float:
        """Device-seconds that a candidate's running job is expected to take from now on."""
        following = next((rung for rung in rungs if rung > record.top), record.top)
        until = max(record.granted, following)
        return self.plain * until + self.training * (until - record.top) + self.evaluation
