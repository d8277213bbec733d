"""Before the first trial: compare the models of a pool on the target task's images."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

from mordal_optuna.alignment.session import warm_up
from mordal_optuna.representation.features import llm_features, vision_features
from mordal_optuna.representation.similarity import Cka, MutualKnn
from mordal_optuna.search.clusters import cluster_pool
from mordal_optuna.search.result import Representation

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import torch
    from PIL.Image import Image

    from mordal_optuna.alignment.data import AlignmentSet
    from mordal_optuna.alignment.session import Machine
    from mordal_optuna.config import RepresentationSettings, StudySettings
    from mordal_optuna.progress import Progress
    from mordal_optuna.representation.similarity import SimilarityMeasure


class Comparison:
    """Two-step comparison: encoders by their features, LLMs by what they make of a medoid's.

    Device-seconds are counted by part as they are spent.
    """

    def __init__(
        self,
        settings: StudySettings,
        *,
        data: AlignmentSet,
        images: Sequence[Image],
        machine: Machine,
        progress: Progress,
    ) -> None:
        """Compare the models of a study.

        Args:
            settings: the study.
            data: warms up the projectors.
            images: images of the target task, at least 4.
            machine: where to compute.
            progress: is told of bars and clusters.
        """
        self._settings = settings
        self._pool = settings.models()
        self._data = data
        self._images = images
        self._machine = machine
        self._progress = progress
        self._measure = similarity_measure(settings.representation, machine.device)
        self._seconds = {"features": 0.0, "similarity": 0.0, "warmup": 0.0}

    def run(self) -> Representation:
        """Features, CKA and clusters of the whole pool.

        Raises:
            ModelError: if a model cannot be loaded or joined to its partner.
            SimilarityError: if features cannot be compared.
        """
        search = self._settings.search
        vision = self._similarity(self._vision_features())
        similarities: dict[str, np.ndarray] = {}

        def llm_similarity(medoid: str) -> np.ndarray:
            similarities[medoid] = self._similarity(self._llm_features(medoid))
            return similarities[medoid]

        tree = cluster_pool(
            self._pool.encoder_names,
            self._pool.llm_names,
            vision,
            llm_similarity,
            vision_threshold=search.vision_threshold,
            llm_threshold=search.llm_threshold,
            linkage=search.linkage,
        )
        rows = {medoid: _rows(similarity) for medoid, similarity in similarities.items()}
        devices = self._machine.processes.world
        spent = {part: seconds * devices for part, seconds in self._seconds.items()}
        return Representation(_rows(vision), rows, tree, spent)

    def _vision_features(self) -> dict[str, np.ndarray]:
        start = perf_counter()
        features = {
            source.name: vision_features(
                source,
                self._images,
                batch_size=self._settings.representation.batch_size,
                precision=self._settings.alignment.precision,
                device=self._machine.device,
                progress=self._progress,
                processes=self._machine.processes,
            )
            for source in self._pool.vision_encoders
        }
        self._seconds["features"] += perf_counter() - start
        return features

    def _llm_features(self, medoid: str) -> dict[str, np.ndarray]:
        """Last hidden states of every LLM, fed with the medoid's embeddings."""
        encoder = next(s for s in self._pool.vision_encoders if s.name == medoid)
        features = {}
        for llm in self._pool.llms:
            start = perf_counter()
            vlm = warm_up(
                encoder,
                llm,
                settings=self._settings.alignment,
                seed=self._settings.seed,
                data=self._data,
                samples=self._settings.representation.warmup_samples,
                machine=self._machine,
                progress=self._progress,
            )
            warm = perf_counter()
            features[llm.name] = llm_features(
                vlm,
                self._images,
                batch_size=self._settings.representation.batch_size,
                device=self._machine.device,
                progress=self._progress,
                processes=self._machine.processes,
            )
            self._seconds["warmup"] += warm - start
            self._seconds["features"] += perf_counter() - warm
        return features

    def _similarity(self, features: dict[str, np.ndarray]) -> np.ndarray:
        start = perf_counter()
        matrix = self._measure(features)
        self._seconds["similarity"] += perf_counter() - start
        return matrix


def similarity_measure(
    settings: RepresentationSettings, device: torch.device
) -> SimilarityMeasure:
    """The measure a study file names."""
    match settings.similarity:
        case "mutual-knn":
            return MutualKnn(device=device)
        case "cka-biased":
            return Cka("biased", device=device)
        case "cka-minibatch":
            return Cka("minibatch", device=device)
        case "cka-debiased":
            return Cka("debiased", device=device)


def _rows(matrix: np.ndarray) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float(value) for value in row) for row in matrix)
