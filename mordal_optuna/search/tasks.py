"""One score for several tasks: the weighted mean of a pair's scores at a rung.

Symbols:
    t         task; a study's tasks have independent documents
    w_t, W    weight of a task, above 0, and the sum of all weights
    s_t, e_t  score on a task, and its standard error
    n_t, f_t  mean -ln p of the reference answers of a task in nats, and its standard error; p_t
              and its standard error likewise
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from mordal_optuna.errors import SearchError
from mordal_optuna.search.bounds import require
from mordal_optuna.search.curves import Measurement

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

# Key of the details of a rung that was scored on some of the tasks.
_PARTIAL = "partial"


@dataclass(frozen=True)
class PartialMeasurement:
    """Scores of a pair at a rung on some tasks of a study: there is no mean over all of them.

    Attributes:
        samples: alignment samples trained on, at least 1.
        by_task: the measurement of each scored task, at least one.
        time: device-seconds by part, see `curves.Measurement`.
    """

    samples: int
    by_task: Mapping[str, Measurement] = field(hash=False)
    time: Mapping[str, float] = field(default_factory=dict, compare=False, repr=False)

    @property
    def train_seconds(self) -> float:
        """Device-seconds of training from the start up to this rung."""
        return max(m.train_seconds for m in self.by_task.values())

    @property
    def eval_seconds(self) -> float:
        """Device-seconds of the evaluations at this rung."""
        return sum(m.eval_seconds for m in self.by_task.values())

    @property
    def train_spent(self) -> float | None:
        """Device-seconds of training that this study spent, see `curves.Measurement`."""
        return _of_all(tuple(self.by_task.values()), lambda m: m.train_spent, sum)

    @property
    def eval_spent(self) -> float | None:
        """Device-seconds of evaluation that this study spent, see `curves.Measurement`."""
        return _of_all(tuple(self.by_task.values()), lambda m: m.eval_spent, sum)

    def to_json(self) -> dict[str, Any]:
        """The details that a trial stores."""
        tasks = {name: {"score": m.score, **m.to_json()} for name, m in self.by_task.items()}
        costs = {"train_seconds": self.train_seconds, "eval_seconds": self.eval_seconds}
        time = {"time": dict(self.time)} if self.time else {}
        return {_PARTIAL: True, **costs, "tasks": tasks, **time}

    @staticmethod
    def from_json(
        details: Mapping[str, Any],
        *,
        samples: int,
        task_answers: Mapping[str, str | None] | None = None,
    ) -> PartialMeasurement | None:
        """Inverse of `to_json`; None for the details of a rung that was scored on all tasks."""
        if not is_partial(details):
            return None
        found = task_answers or {}
        by_task = {
            name: Measurement(samples=samples, answers=found.get(name), **one)
            for name, one in details["tasks"].items()
        }
        return PartialMeasurement(samples, by_task, details.get("time", {}))


def is_partial(details: Mapping[str, Any]) -> bool:
    """Whether the stored details of a rung are those of scores on some of several tasks."""
    return bool(details.get(_PARTIAL))


def completed(
    scored: Measurement | PartialMeasurement,
    before: PartialMeasurement | None,
    weights: Mapping[str, float],
) -> Measurement | PartialMeasurement:
    """The scores of a rung together with those that it had before: a mean once no task lacks.

    Args:
        scored: new scores at the rung.
        before: scores that the rung had before; None if it had none.
        weights: w_t of all tasks of the study by their names.
    """
    if isinstance(scored, Measurement):
        return scored
    by_task, time = {**scored.by_task}, {**scored.time}
    if before:
        by_task = {**before.by_task, **by_task}
        for part, seconds in before.time.items():
            time[part] = time.get(part, 0.0) + seconds
    if by_task.keys() == weights.keys():
        return replace(weighted_mean(by_task, weights), time=time)
    return PartialMeasurement(scored.samples, by_task, time)


def weighted_mean(by_task: Mapping[str, Measurement], weights: Mapping[str, float]) -> Measurement:
    """The weighted mean of the measurements of all tasks at one rung.

    The score is sum w_t s_t / W with the standard error sqrt(sum w_t^2 e_t^2) / W, in which e_t is
    at least half a document; the same for n_t and f_t. A value is None if it is unknown for a
    task; the number of documents is always None. The pair was trained once: `train_seconds` is
    that of the training, which all tasks have, and `train_spent` the sum of the tasks' shares.
    Costs of the evaluations are summed.

    Args:
        by_task: measurement of each task, all at the same rung.
        weights: w_t by the task's name.

    Raises:
        SearchError: if weights and measurements are not of the same tasks, if there are none, if
            the rungs differ, or if a weight is not above 0.
    """
    samples = {m.samples for m in by_task.values()}
    if by_task.keys() != weights.keys() or len(samples) != 1:
        raise SearchError(
            f"tasks {sorted(by_task)} at {sorted(samples)} samples were given with weights of "
            f"{sorted(weights)}; a mean needs scores of the same tasks, at least one, at one rung"
        )
    for name, weight in weights.items():
        require(weight > 0, f"weight of {name}", weight, "above 0")
    ordered = [by_task[name] for name in weights]
    shares = [weight / sum(weights.values()) for weight in weights.values()]
    known = all(m.stderr is not None for m in ordered)
    return Measurement(
        samples=samples.pop(),
        # Rounding must not lift a mean of perfect scores above 1.
        score=min(1.0, _mean([m.score for m in ordered], shares)),
        stderr=_error([m.noise for m in ordered], shares) if known else None,
        train_seconds=max(m.train_seconds for m in ordered),
        eval_seconds=sum(m.eval_seconds for m in ordered),
        nll=_of_all(ordered, lambda m: m.nll, lambda values: _mean(values, shares)),
        nll_stderr=_of_all(ordered, lambda m: m.nll_stderr, lambda values: _error(values, shares)),
        p_correct=_of_all(ordered, lambda m: m.p_correct, lambda values: _mean(values, shares)),
        p_correct_stderr=_of_all(
            ordered, lambda m: m.p_correct_stderr, lambda values: _error(values, shares)
        ),
        train_spent=_of_all(ordered, lambda m: m.train_spent, sum),
        eval_spent=_of_all(ordered, lambda m: m.eval_spent, sum),
        by_task=dict(by_task),
    )


def _of_all(
    measurements: Sequence[Measurement],
    value: Callable[[Measurement], float | None],
    combined: Callable[[Sequence[float]], float],
) -> float | None:
    """Values of all tasks combined; None if one is unknown."""
    known = [v for m in measurements if (v := value(m)) is not None]
    return combined(known) if len(known) == len(measurements) else None


def _mean(values: Sequence[float], shares: Sequence[float]) -> float:
    return sum(w * value for w, value in zip(shares, values, strict=True))


def _error(errors: Sequence[float], shares: Sequence[float]) -> float:
    """Standard error of a weighted mean of independent values."""
    return sum((w * error) ** 2 for w, error in zip(shares, errors, strict=True)) ** 0.5
