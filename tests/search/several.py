"""A small grid of known curves on two tasks, with another best pair on each."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from mordal_optuna.pool import Candidate
from mordal_optuna.search.tasks import weighted_mean
from tests.search.synthetic import ENCODERS, LLMS, Table, table

if TYPE_CHECKING:
    from mordal_optuna.search.curves import Measurement

WEIGHTS = {"gqa": 2.0, "chartqa": 1.0}
# The best pair on each task; the best one on the weighted mean is the second on both.
BEST = {"gqa": Candidate("siglip", "qwen"), "chartqa": Candidate("clip", "llama")}
MEAN_BEST = Candidate("clip", "qwen")


def charts() -> Table:
    """The best is clip + llama."""
    encoder = {"clip": 0.9, "siglip": 1.2, "dino": 1.4}
    llm = {"llama": 0.15, "qwen": 0.18, "mistral": 0.22}
    return Table({Candidate(v, m): encoder[v] * llm[m] for v in ENCODERS for m in LLMS})


@dataclass
class Several:
    """Measures a pair on both tasks; the training is shared out.

    Attributes:
        weights: weight of each task.
        tables: curves by task.
    """

    weights: dict[str, float] = field(default_factory=lambda: dict(WEIGHTS))
    tables: dict[str, Table] = field(default_factory=lambda: {"gqa": table(), "chartqa": charts()})

    @property
    def runs(self) -> list[tuple[Candidate, int]]:
        """Every (candidate, samples) that was measured, in order."""
        return self.tables["gqa"].runs

    def __call__(self, candidate: Candidate, samples: int) -> Measurement:
        """Measure, as the objective asks for it."""
        by_task = {name: one(candidate, samples) for name, one in self.tables.items()}
        share = {name: m.train_seconds / len(by_task) / 2 for name, m in by_task.items()}
        shared = {name: replace(m, train_spent=share[name]) for name, m in by_task.items()}
        return weighted_mean(shared, self.weights)
