"""Prices of a study's jobs: device-seconds of training, encoding, scoring and comparing.

Symbols:
    D   samples of a full alignment
    c   samples whose features of an encoder fit into its part of the cache
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from mordal_optuna.planning.memory import BYTES
from mordal_optuna.planning.seconds import (
    Sized,
    encode_seconds,
    load_seconds,
    score_seconds,
    train_seconds,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mordal_optuna.config import StudySettings
    from mordal_optuna.planning.tasks import TaskFacts
    from mordal_optuna.pool import Candidate


@dataclass(frozen=True)
class Price:
    """Device-seconds of one candidate.

    Attributes:
        train: training on a sample whose features are there.
        encode: features of the images of a sample.
        load: loading the candidate.
        warm: a warm-up's training on a sample.
        image: features of one image that models are compared on.
        feed: a pass of the LLM over one image.
        document: a document of each task, in the order of the tasks.
    """

    train: float
    encode: float
    load: float
    warm: float
    image: float
    feed: float
    document: tuple[float, ...]


@dataclass(frozen=True)
class Prices:
    """Prices of a whole study.

    Attributes:
        settings: the study, with options adapted to D.
        full_samples: D.
        sized: sizes of each candidate.
        tasks: tasks that each rung is scored on.
    """

    settings: StudySettings
    full_samples: int
    sized: Mapping[Candidate, Sized]
    tasks: Sequence[TaskFacts]

    @cached_property
    def of(self) -> Mapping[Candidate, Price]:
        """Prices by candidate."""
        return {candidate: self._price(one) for candidate, one in self.sized.items()}

    def scoring(self, candidate: Candidate, samples: int) -> float:
        """Device-seconds of a score at a rung, on all tasks.

        Args:
            candidate: the pair.
            samples: samples of the rung.
        """
        counts = self.documents(samples)
        return sum(n * s for n, s in zip(counts, self.of[candidate].document, strict=True))

    def documents(self, samples: int) -> tuple[int, ...]:
        """Documents of each task that a rung is scored on.

        Args:
            samples: samples of the rung.
        """
        count = len(self.tasks)
        return tuple(task.documents_at(samples, self.full_samples, count) for task in self.tasks)

    def feature_bytes(self, candidate: Candidate) -> float:
        """Bytes of the features of a sample.

        Args:
            candidate: a pair with the encoder.
        """
        one = self.sized[candidate]
        each = BYTES[self.settings.alignment.precision]
        images = float(np.mean(one.tokens.images))
        return images * one.encoder.image_tokens * one.encoder.width * each

    def cached_samples(self, candidate: Candidate) -> int:
        """c, of the candidate's encoder.

        Args:
            candidate: a pair with the encoder.
        """
        encoders = len(self.settings.pool.vision_encoders)
        part = self.settings.runtime.feature_cache_gb * 1e9 / encoders
        return min(self.full_samples, int(part / max(self.feature_bytes(candidate), 1.0)))

    def grid_seconds(self) -> float:
        """Device-seconds of training every pair on D samples and scoring it once.

        Features are cached as in a search.
        """
        d, total = self.full_samples, 0.0
        seen: set[str] = set()
        for candidate, price in self.of.items():
            cached = self.cached_samples(candidate) if candidate.vision_encoder in seen else 0
            seen.add(candidate.vision_encoder)
            total += d * price.train + (d - cached) * price.encode + price.load
            total += self.scoring(candidate, d)
        return total

    def _price(self, one: Sized) -> Price:
        recipe = self.settings.alignment
        each = BYTES[recipe.precision]
        image = encode_seconds(one.encoder, one.device)

        def document(task: TaskFacts) -> float:
            return score_seconds(
                one,
                batch_size=task.settings.batch_size,
                new_tokens=task.new_tokens,
                likelihood=task.settings.likelihood,
                bytes_each=each,
            )

        batch = self.settings.representation.batch_size
        feed = score_seconds(
            one, batch_size=batch, new_tokens=0, likelihood=False, bytes_each=each
        )
        return Price(
            train=train_seconds(one),
            encode=image * float(np.mean(one.tokens.images)),
            load=load_seconds(one, each),
            warm=train_seconds(one, lora=False),
            image=image,
            feed=feed,
            document=tuple(document(task) for task in self.tasks),
        )
