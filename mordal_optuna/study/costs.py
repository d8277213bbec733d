"""Costs of a search in device-seconds, by what they were spent on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Costs:
    """Device-seconds of a study or of a replayed search.

    Attributes:
        features: features of the compared models. In a replay this includes the similarities,
            which a grid file does not list separately.
        similarity: similarities of those features.
        warmup: warm-ups of projectors, by which LLMs are compared.
        training: training of each candidate up to its highest rung.
        evaluation: all scores.
        lost: trials that failed or whose worker died, beyond the cost of their scores; and all
            trials of objectives that report no costs. 0 in a replay.
        reused: cost of checkpoints and scores taken over from other studies. It was not spent
            again and is not part of the total. 0 in a replay.
    """

    features: float = 0.0
    similarity: float = 0.0
    warmup: float = 0.0
    training: float = 0.0
    evaluation: float = 0.0
    lost: float = 0.0
    reused: float = 0.0

    @property
    def total(self) -> float:
        """Device-seconds spent; reused results are not counted."""
        compared = self.features + self.similarity + self.warmup
        return compared + self.training + self.evaluation + self.lost
