"""Expected costs of jobs, learned from what earlier jobs cost.

Symbols:
    c_ij     device-seconds of a pair per sample of training, or per evaluation
    l        mean of ln c over the measured pairs
    a_i, b_j  deviations of encoder i and LLM j: ln c_ij = l + a_i + b_j
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import cho_factor, cho_solve

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.curves import Measurement

# Ridge penalty of a and b: a model seen once has half of its deviation in a_i or b_j.
_RIDGE = 0.1
# Expected costs are rounded to steps of 2^(1/4), so that the noise of timing does not change the
# choice of jobs.
_STEPS = 4
# Costs where an objective reports none: training by samples, an evaluation 1 % of a full run.
_PLAIN_EVALUATION = 0.01


@dataclass(frozen=True)
class JobCosts:
    """Expected costs of any pair of the pool.

    Attributes:
        training: device-seconds per sample, by encoder and LLM; None if costs are not reported.
        evaluation: device-seconds per score by task, likewise.
        documents: documents of each task, which tell evaluations apart before costs are known.
        full_samples: D.
    """

    training: _Additive | None
    evaluation: Mapping[str, _Additive]
    full_samples: int
    documents: Mapping[str, int] = field(default_factory=dict)

    @staticmethod
    def learned(
        measured: Mapping[Candidate, Mapping[str, Sequence[Measurement]]],
        full_samples: int,
        documents: Mapping[str, int] | None = None,
    ) -> JobCosts:
        """Costs learned from measurements.

        Args:
            measured: measurements by pair and task, ascending by samples.
            full_samples: D, at least 1.
            documents: number of documents of each task; None if they are not known.
        """
        tops = {
            c: max((rows[-1] for rows in by_task.values() if rows), key=lambda m: m.samples)
            for c, by_task in measured.items()
            if any(by_task.values())
        }
        rates = {c: m.train_seconds / m.samples for c, m in tops.items() if m.train_seconds > 0}
        evaluations: dict[str, dict[Candidate, float]] = {}
        for c, by_task in measured.items():
            for task, rows in by_task.items():
                seconds = float(np.mean([m.eval_seconds for m in rows])) if rows else 0.0
                if seconds > 0:
                    evaluations.setdefault(task, {})[c] = seconds
        return JobCosts(
            _Additive.of(rates),
            {task: found for task, own in evaluations.items() if (found := _Additive.of(own))},
            full_samples,
            documents or {},
        )

    def train(self, candidate: Candidate, samples: int) -> float:
        """Expected cost of training a pair on a number of samples.

        In device-seconds; in full runs if the objective reports no costs.
        """
        if self.training is None:
            return samples / self.full_samples
        return self.training.value(candidate) * samples

    def evaluate(self, candidate: Candidate, task: str = "") -> float:
        """Expected cost of scoring a pair once on a task, in the same unit.

        Args:
            candidate: the pair.
            task: name of the task; empty if there is one task.
        """
        if task in self.evaluation:
            return self.evaluation[task].value(candidate)
        if self.training is not None:
            return 0.0
        known = sum(self.documents.values())
        return _PLAIN_EVALUATION * (
            self.documents[task] / known if task in self.documents else 1.0
        )


@dataclass(frozen=True)
class _Additive:
    level: float
    encoders: Mapping[str, float]
    llms: Mapping[str, float]

    @staticmethod
    def of(values: Mapping[Candidate, float]) -> _Additive | None:
        """Fit l, a and b by ridge regression; None without values."""
        if not values:
            return None
        encoders = {n: i for i, n in enumerate(sorted({c.vision_encoder for c in values}))}
        llms = {n: j for j, n in enumerate(sorted({c.llm for c in values}), len(encoders))}
        rows = np.array([encoders[c.vision_encoder] for c in values])
        columns = np.array([llms[c.llm] for c in values])
        logs = np.log(np.array(list(values.values())))
        level = float(logs.mean())
        size = len(encoders) + len(llms)
        squares = _RIDGE * np.eye(size)
        moments = np.zeros(size)
        for one in (rows, columns):
            np.add.at(moments, one, logs - level)
            for other in (rows, columns):
                np.add.at(squares, (one, other), 1.0)
        solved = cho_solve(cho_factor(squares), moments).tolist()
        return _Additive(
            level,
            dict(zip(encoders, solved[: len(encoders)], strict=True)),
            dict(zip(llms, solved[len(encoders) :], strict=True)),
        )

    def value(self, candidate: Candidate) -> float:
        deviation = self.encoders.get(candidate.vision_encoder, 0.0)
        deviation += self.llms.get(candidate.llm, 0.0)
        steps = round((self.level + deviation) / math.log(2) * _STEPS)
        return float(2.0 ** (steps / _STEPS))
