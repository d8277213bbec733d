"""How much a search still has to spend: the rest of its plan with guessed scores.

A plan lists jobs as long as it has any. They are taken as done, with scores guessed from those at
hand, until the plan has no more. How many candidates go on from a rung hardly depends on who they
are, so rough scores are enough for the costs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mordal_optuna.search.curves import Measurement
from mordal_optuna.search.history import CandidateHistory, History
from mordal_optuna.search.jobs import Finished

if TYPE_CHECKING:
    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.jobs import Job
    from mordal_optuna.search.plan import Plan

# A plan ends after a few waves of jobs: one for each rung, and those of the finish.
_WAVES = 64
# Standard error of the guessed score of a candidate that was never scored.
_NOISE = 0.02


@dataclass(frozen=True)
class _Prices:
    """Mean costs of the pool's jobs so far.

    Attributes:
        training: device-seconds per sample.
        evaluation: device-seconds per score.
        score: mean of all scores.
    """

    training: float
    evaluation: float
    score: float

    @staticmethod
    def of(history: History) -> _Prices | None:
        """The means; None before any cost is known."""
        records = [r for r in history.candidates.values() if r.measurements]
        scores = [m for r in records for m in r.measurements]
        samples = sum(r.top for r in records)
        training = sum(r.train_seconds for r in records)
        if not samples or not training:
            return None
        return _Prices(
            training / samples,
            sum(m.eval_seconds for m in scores) / len(scores),
            sum(m.score for m in scores) / len(scores),
        )


def seconds_left(plan: Plan, history: History) -> float | None:
    """Device-seconds of the jobs that a plan still wants, without a budget.

    Args:
        plan: plan whose jobs depend on few scores; not one that chooses its jobs by a model of
            all scores.
        history: history of the study.

    Returns:
        The seconds; None if no costs are known, or the plan does not end.
    """
    prices, total = _Prices.of(history), 0.0
    if prices is None:
        return None
    for _ in range(_WAVES):
        jobs = plan.jobs(history)
        if isinstance(jobs, Finished):
            return total
        done = dict(history.candidates)
        for job in jobs:
            record = done.get(job.candidate, CandidateHistory())
            done[job.candidate], seconds = _after(job, record, prices)
            total += seconds
        if done == history.candidates:
            return None
        history = History(_in_order(done))
    return None


def _after(job: Job, record: CandidateHistory, prices: _Prices) -> tuple[CandidateHistory, float]:
    """A candidate's history after a job, and the job's cost."""
    own = record.measurements
    rate = record.train_seconds / record.top if record.train_seconds else prices.training
    spent = (job.samples - record.top) * rate
    evaluation = sum(m.eval_seconds for m in own) / len(own) if own else prices.evaluation
    basis = own[-1] if own else Measurement(job.samples, prices.score, _NOISE)
    guessed = replace(
        basis,
        samples=job.samples,
        train_seconds=record.train_seconds + spent,
        eval_seconds=evaluation,
    )
    measured = tuple(sorted((*own, guessed), key=lambda m: m.samples))
    return replace(record, measurements=measured, running=False), max(spent, 0.0) + evaluation


def _in_order(records: dict[Candidate, CandidateHistory]) -> dict[Candidate, CandidateHistory]:
    return {candidate: records[candidate] for candidate in sorted(records)}
