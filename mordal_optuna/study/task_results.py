"""What a study with several target tasks found for each task, beside its one model for all.

Symbols:
    b, a    best pair for a task by its estimate; the pair that is best for all tasks together
    y_b     ln error of a pair on the task after all samples, normal with the task's posterior
    d       score of b less score of a on the task, exp(y_a) - exp(y_b) without clipping
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.curves import Measurement
    from mordal_optuna.search.history import History
    from mordal_optuna.search.joint.posterior import Posterior
    from mordal_optuna.search.plan import Plan
    from mordal_optuna.search.ranking import Estimate

# Draws of d, for its interval and its sign.
_DRAWS = 4096
# Tasks that are named in the name of their mean; more are counted.
_NAMED = 3


@dataclass(frozen=True)
class Gain:
    """What the best pair for a task wins there over the one model for all tasks.

    Attributes:
        value: difference of the two estimates, -1 to 1.
        low: lower end of the interval of d, -1 to 1.
        high: upper end of the interval of d, -1 to 1.
        probability: probability that d is above 0.
    """

    value: float
    low: float
    high: float
    probability: float


@dataclass(frozen=True)
class TaskResult:
    """The result on one of several target tasks.

    Attributes:
        name: name of the task.
        weight: weight of its score in the weighted mean, above 0.
        ranking: estimates of all pairs on this task, best first, with probabilities of being the
            best on it. Their seconds are the task's share of the costs.
        one_for_all: estimate of the study's winner on this task.
        gain: what the first pair of the ranking wins over `one_for_all`; None if it is the same
            pair.
        curves: measurements of each trained pair on this task, by ascending samples.
    """

    name: str
    weight: float
    ranking: tuple[Estimate, ...]
    one_for_all: Estimate
    gain: Gain | None
    curves: Mapping[Candidate, tuple[Measurement, ...]]

    @property
    def best(self) -> Estimate:
        """Estimate of the pair that is best on this task by its estimate."""
        return self.ranking[0]

    def places(self) -> dict[Candidate, tuple[int, Estimate]]:
        """Rank on this task, from 1, and estimate of every pair."""
        return {e.candidate: (rank, e) for rank, e in enumerate(self.ranking, start=1)}


def mean_of(weights: Mapping[str, float]) -> str:
    """The name of the weighted mean of tasks, in words.

    Args:
        weights: weight of each task by its name.
    """
    kind = "weighted mean" if len(set(weights.values())) > 1 else "mean"
    if len(weights) > _NAMED:
        return f"the {kind} of {len(weights)} tasks"
    *names, last = weights
    return f"the {kind} of {', '.join(names)} and {last}"


def task_results(
    plan: Plan,
    history: History,
    weights: Mapping[str, float],
    winner: Candidate,
    given_up: Collection[Candidate] = (),
) -> tuple[TaskResult, ...]:
    """The result on every task, from the scores of all tasks if the joint model ranks.

    Args:
        plan: plan of the study.
        history: history of the study.
        weights: weight of each task by its name.
        winner: the study's winner on the weighted mean.
        given_up: pairs that cannot be trained, which come last on every task.
    """
    posteriors = plan.ranker.task_posteriors(history, weights)
    return tuple(
        _task_result(plan, history.of_task(name), posteriors[name], name, weight, winner, given_up)
        for name, weight in weights.items()
    )


def unbeaten(tasks: Sequence[TaskResult]) -> tuple[Candidate, ...]:
    """The pairs that no other pair beats on all tasks, by their estimates (the Pareto set).

    A pair is left out if another one has no lower estimate on any task and a higher one on some.

    Args:
        tasks: results of all tasks, at least one.

    Returns:
        The pairs, by descending weighted mean of their estimates.
    """
    pairs = [e.candidate for e in tasks[0].ranking if e.provenance != "none"]
    values = np.empty((len(pairs), len(tasks)))
    for column, task in enumerate(tasks):
        by_pair = {e.candidate: e.value for e in task.ranking}
        values[:, column] = [by_pair[pair] for pair in pairs]
    weights = np.array([task.weight for task in tasks])
    # A pair that beats another one has a higher mean, so it comes first.
    kept: list[int] = []
    for index in np.argsort(-(values @ weights), kind="stable"):
        above = values[kept] - values[index]
        if not ((above >= 0).all(axis=1) & (above > 0).any(axis=1)).any():
            kept.append(int(index))
    return tuple(pairs[index] for index in kept)


def _task_result(
    plan: Plan,
    history: History,
    posterior: Posterior,
    name: str,
    weight: float,
    winner: Candidate,
    given_up: Collection[Candidate],
) -> TaskResult:
    ranking = plan.ranker.rank_with_chances(history, posterior, given_up)
    one_for_all = next(e for e in ranking if e.candidate == winner)
    best = ranking[0]
    return TaskResult(
        name=name,
        weight=weight,
        ranking=ranking,
        one_for_all=one_for_all,
        gain=(
            None
            if best.candidate == winner
            else gain_of(posterior, best, one_for_all, plan.ranker.confidence)
        ),
        curves={c: r.measurements for c, r in history.candidates.items() if r.measurements},
    )


def gain_of(posterior: Posterior, best: Estimate, other: Estimate, confidence: float) -> Gain:
    """What one pair wins over another, with interval and probability by Monte Carlo.

    Args:
        posterior: posterior of both.
        best: estimate of the first pair.
        other: estimate of the second pair.
        confidence: confidence level of the interval, above 0 and below 1.
    """
    pairs = (best.candidate, other.candidate)
    rows = np.array([posterior.candidates.index(pair) for pair in pairs], dtype=np.int64)
    mean, covariance = posterior.joint(rows)
    y = np.random.default_rng(0).multivariate_normal(mean, covariance, _DRAWS, method="eigh")
    scores = np.clip(1 - np.exp(y), 0, 1)
    d = scores[:, 0] - scores[:, 1]
    tail = (1 - confidence) / 2
    low, high = np.quantile(d, (tail, 1 - tail)).tolist()
    return Gain(best.value - other.value, low, high, float((d > 0).mean()))
