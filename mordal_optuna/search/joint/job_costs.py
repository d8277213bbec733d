"""Expected costs of jobs, learned from what earlier jobs cost.

Symbols:
    c_ij     device-seconds of a pair per sample of training, or per evaluation
    l        mean of ln c over the measured pairs
    a_i, b_j  deviations of encoder i and LLM j: ln c_ij = l + a_i + b_j
"""

from __future__ import annotations

import math
from dataclasses import dataclass
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
        evaluation: device-seconds per score, likewise.
        full_samples: D.
    """

    training: _Additive | None
    evaluation: _Additive | None
    full_samples: int

    @staticmethod
    def learned(
        measured: Mapping[Candidate, Sequence[Measurement]], full_samples: int
    ) -> JobCosts:
        """Costs learned from measurements.

        Args:
            measured: measurements by pair, ascending by samples.
            full_samples: D, at least 1.
        """
        rates = {
            c: rows[-1].train_seconds / rows[-1].samples
            for c, rows in measured.items()
            if rows and rows[-1].train_seconds > 0
        }
        evaluations = {
            c: seconds
            for c, rows in measured.items()
            if rows and (seconds := float(np.mean([m.eval_seconds for m in rows]))) > 0
        }
        return JobCosts(_Additive.of(rates), _Additive.of(evaluations), full_samples)

    def train(self, candidate: Candidate, samples: int) -> float:
        """Expected cost of training a pair on a number of samples.

        In device-seconds; in full runs if the objective reports no costs.
        """
        if self.training is None:
            return samples / self.full_samples
        return self.training.value(candidate) * samples

    def evaluate(self, candidate: Candidate) -> float:
        """Expected cost of scoring a pair once, in the same unit."""
        if self.evaluation is None:
            return _PLAIN_EVALUATION if self.training is None else 0.0
        return self.evaluation.value(candidate)


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
