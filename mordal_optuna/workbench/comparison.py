"""Comparison of the models of a pool on the target tasks' images, before the first trial."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from mordal_optuna.alignment.checkpoint import model_identity, part_identity
from mordal_optuna.alignment.session import LIBRARIES
from mordal_optuna.alignment.warmup import warm_up, with_projector
from mordal_optuna.errors import ConfigError
from mordal_optuna.models.loading import load_config
from mordal_optuna.pool import Candidate
from mordal_optuna.representation.cache import Computed, ComputedStore, images_digest
from mordal_optuna.representation.features import llm_features, vision_features
from mordal_optuna.representation.similarity import Cka, MutualKnn
from mordal_optuna.search.clusters import LEAST_CKA, cluster_pool
from mordal_optuna.search.methods.catalogue import METHODS
from mordal_optuna.search.methods.comparing import compared_models
from mordal_optuna.study.growing import Compared
from mordal_optuna.study.result import Representation
from mordal_optuna.workbench.images import LEAST_IMAGES

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from pathlib import Path

    import torch
    from PIL.Image import Image

    from mordal_optuna.alignment.data import AlignmentSet
    from mordal_optuna.alignment.machine import Machine
    from mordal_optuna.config import RepresentationSettings, StudySettings
    from mordal_optuna.models.assemble import Vlm
    from mordal_optuna.pool import ModelSource
    from mordal_optuna.progress import Progress
    from mordal_optuna.representation.similarity import SimilarityMeasure
    from mordal_optuna.study.turns import Turns


@dataclass(frozen=True)
class _Job:
    """The features of one model.

    Attributes:
        name: name of the job among workers.
        identity: what shapes the features, without the images.
        compute: computes them.
        paid: whether the study that this one extends has paid for them.
    """

    name: str
    identity: dict[str, object]
    compute: Callable[[], Computed]
    paid: bool


class Comparison:
    """Compares encoders by their features, then LLMs by the hidden states they give these.

    All LLMs are fed with the features of the same encoder, the medoid of a cluster of encoders.
    All ranks run it together. Several workers share out the models: each computes the features of
    models that nobody has, and reads the others' once they are stored.
    """

    def __init__(
        self,
        settings: StudySettings,
        *,
        data: AlignmentSet,
        images: Sequence[Image],
        machine: Machine,
        folder: str | Path,
        progress: Progress,
        before: Compared | None = None,
        unusable: Collection[str] = (),
        turns: Turns | None = None,
    ) -> None:
        """Compare the models of a study.

        Args:
            settings: the study.
            data: alignment set, on which the projectors are warmed up.
            images: images of the target tasks, or of the alignment set, at least 4.
            machine: device, ranks and caches.
            folder: folder or fsspec address of stored features and warmed-up projectors.
            progress: receives progress updates.
            before: what an earlier study has paid for: where it is still stored, it counts as
                reused.
            unusable: names of LLMs that cannot be trained, which are compared with no other; each
                is a cluster by itself.
            turns: turns of the study's workers; None if it has one worker, and on other ranks.

        Raises:
            ConfigError: if there are fewer than 4 images.
        """
        if len(images) < LEAST_IMAGES:
            raise ConfigError(
                [
                    f"representation.images: got {len(images)} images of the target task; at "
                    f"least {LEAST_IMAGES} are needed"
                ]
            )
        self._settings = settings
        self._pool = settings.models()
        self._data = data
        self._images = images
        self._machine = machine
        self._progress = progress
        self._digest = images_digest(images)
        self._store = ComputedStore(folder)
        self._measure = similarity_measure(settings.representation, machine.device)
        self._seconds = {"features": 0.0, "similarity": 0.0, "warmup": 0.0}
        self._before = before or Compared()
        self._unusable = unusable
        self._turns = turns
        self._reused = 0.0

    def run(self) -> Representation:
        """Compute features, similarities and clusters of the whole pool.

        Returns:
            Similarity matrices, cluster tree, and device-seconds by part.

        Raises:
            ModelError: if a model cannot be loaded or joined to its partner.
            SimilarityError: if features cannot be compared.
        """
        search = self._settings.search
        vision = self._similarity(self._vision_features())
        similarities: dict[str, np.ndarray] = {}

        def llm_similarity(medoid: str) -> np.ndarray:
            known = self._similarity(self._llm_features(medoid))
            similarities[medoid] = _among_all(known, self._pool.llm_names, self._unusable)
            return similarities[medoid]

        compared = compared_models(
            search,
            len(self._pool.vision_encoders),
            len(self._pool.llms),
            warmup_share=self._settings.representation.warmup_samples / len(self._data),
        )
        if compared.reason:
            self._progress.note(compared.reason)
        tree = cluster_pool(
            self._pool.encoder_names,
            self._pool.llm_names,
            vision,
            llm_similarity if compared.llms else None,
            vision_threshold=search.vision_threshold,
            llm_threshold=search.llm_threshold,
            linkage=search.linkage,
            least=least_similarity(self._settings.representation),
            one_medoid=not METHODS[search.method].needs_clusters,
            left_out=self._unusable,
        )
        rows = {medoid: _rows(similarity) for medoid, similarity in similarities.items()}
        return Representation(_rows(vision), rows, tree, dict(self._seconds), self._reused)

    def _vision_features(self) -> dict[str, np.ndarray]:
        return self._shared_out(
            {
                source.name: _Job(
                    f"compare {source.name}",
                    {"encoder": self._identity(source)},
                    partial(self._encode, source),
                    paid=source.name in self._before.encoders,
                )
                for source in self._pool.vision_encoders
            }
        )

    def _encode(self, source: ModelSource) -> Computed:
        start = perf_counter()
        values = vision_features(
            source,
            self._images,
            batch_size=self._settings.representation.batch_size,
            precision=self._settings.alignment.precision,
            device=self._machine.device,
            progress=self._progress,
            processes=self._machine.processes,
        )
        return Computed({"features": values}, {"features": self._since(start)})

    def _llm_features(self, medoid: str) -> dict[str, np.ndarray]:
        """Mean last hidden states of every LLM, fed with the medoid's projected features."""
        encoder = next(s for s in self._pool.vision_encoders if s.name == medoid)
        # Older versions stored `refuse`, which decides no number where nothing is cut, and had no
        # `auto`.
        recipe = self._settings.alignment.stored({"conversations", "images", "dataset", "lora"})
        recipe |= {
            "too_long": "refuse",
            "gradient_checkpointing": recipe["gradient_checkpointing"] is True,
        }
        jobs = {}
        for llm in self._pool.llms:
            if llm.name in self._unusable:
                continue
            projector: dict[str, object] = {
                "encoder": self._identity(encoder),
                "llm": part_identity("llm", llm, load_config(llm), self._machine.files),
                "recipe": recipe,
                "warmup_samples": self._settings.representation.warmup_samples,
                "data": self._data.digest,
                "seed": self._settings.seed,
            }
            jobs[llm.name] = _Job(
                f"compare {medoid} > {llm.name}",
                projector,
                partial(self._feed, encoder, llm, projector),
                paid=Candidate(medoid, llm.name) in self._before.fed,
            )
        return self._shared_out(jobs)

    def _shared_out(self, jobs: dict[str, _Job]) -> dict[str, np.ndarray]:
        """Features of some models by name, in their order; waits for those of other workers."""
        found: dict[str, np.ndarray] = {}
        pauses = self._turns.pauses() if self._turns else None
        while len(found) < len(jobs):
            before = len(found)
            for name, job in jobs.items():
                if name not in found:
                    with self._turn(job) as mine:
                        if mine:
                            found[name] = self._features(job)
            if len(found) == before:
                self._machine.processes.run_on_main(pauses.wait if pauses else _never)
            elif pauses:
                pauses.reset()
        return {name: found[name] for name in jobs}

    @contextmanager
    def _turn(self, job: _Job) -> Iterator[bool]:
        """Whether this worker may have a job's features now, in the context on all ranks."""
        with ExitStack() as held:

            def decide() -> bool:
                if self._turns is None or self._store.has(self._shaped(job)):
                    return True
                return held.enter_context(self._turns.try_for(job.name))

            yield self._machine.processes.run_on_main(decide)

    def _feed(
        self, encoder: ModelSource, llm: ModelSource, projector: dict[str, object]
    ) -> Computed:
        vlm, warm_seconds = self._warmed_up(encoder, llm, projector)
        start = perf_counter()
        values = llm_features(
            vlm,
            self._images,
            batch_size=self._settings.representation.batch_size,
            device=self._machine.device,
            progress=self._progress,
            processes=self._machine.processes,
        )
        seconds = {"warmup": warm_seconds, "features": self._since(start)}
        return Computed({"features": values}, seconds)

    def _warmed_up(
        self, encoder: ModelSource, llm: ModelSource, identity: dict[str, object]
    ) -> tuple[Vlm, float]:
        """A candidate with a warmed-up projector, and the device-seconds of the warm-up.

        The projector may have been stored by a study on another task.
        """
        live: list[Vlm] = []

        def compute() -> Computed:
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
            live.append(vlm)
            weights = {name: p.detach().cpu().numpy() for name, p in vlm.trainable().items()}
            return Computed(weights, {"warmup": self._since(start)})

        projector, _ = self._stored_or(self._here({**identity, "kept": "projector"}), compute)
        vlm = next(iter(live), None) or with_projector(
            encoder,
            llm,
            projector.arrays,
            settings=self._settings.alignment,
            machine=self._machine,
        )
        return vlm, projector.seconds["warmup"]

    def _shaped(self, job: _Job) -> dict[str, object]:
        """Everything that shapes a job's features."""
        batch_size = self._settings.representation.batch_size
        return self._here({**job.identity, "images": self._digest, "batch_size": batch_size})

    def _features(self, job: _Job) -> np.ndarray:
        """Features of the task's images; their cost counts even if they were stored before.

        It counts as reused if they are stored and the study that this one extends has paid,
        unless a worker of this one computed them again.
        """
        computed, found = self._stored_or(self._shaped(job), job.compute)
        if found and job.paid and computed.study != self._settings.study:
            self._reused += sum(computed.seconds.values())
        else:
            for part, seconds in computed.seconds.items():
                self._seconds[part] += seconds
        return computed.arrays["features"]

    def _stored_or(
        self, identity: dict[str, object], compute: Callable[[], Computed]
    ) -> tuple[Computed, bool]:
        """Read arrays from the disk; if they are missing, compute and store them.

        Returns:
            The arrays, and whether they were stored.
        """
        processes = self._machine.processes
        # Rank 0 alone looks: all ranks must agree on whether to compute.
        stored = processes.run_on_main(lambda: self._store.get(identity))
        if stored is not None:
            return stored, True
        computed = replace(compute(), study=self._settings.study)
        processes.run_on_main(lambda: self._store.put(identity, computed))
        return computed, False

    def _here(self, identity: dict[str, object]) -> dict[str, object]:
        """An identity with what shapes everything that is computed here."""
        return {
            **identity,
            "precision": self._settings.alignment.precision,
            "device": self._machine.device.type,
            "libraries": {name: version(name) for name in LIBRARIES},
        }

    def _since(self, start: float) -> float:
        """Device-seconds since a time: all ranks are busy or wait for one another."""
        return (perf_counter() - start) * self._machine.processes.world_size

    def _identity(self, source: ModelSource) -> dict[str, str | None]:
        return model_identity(source, load_config(source), self._machine.files)

    def _similarity(self, features: dict[str, np.ndarray]) -> np.ndarray:
        start = perf_counter()
        matrix = self._measure(features)
        self._seconds["similarity"] += self._since(start)
        return matrix


def _never() -> None:
    """What ranks other than 0 would do alone: `run_on_main` calls it nowhere."""


def similarity_measure(
    settings: RepresentationSettings, device: torch.device
) -> SimilarityMeasure:
    """The similarity measure that a study file names.

    Args:
        settings: `representation` section of the study file.
        device: torch device to compute on.
    """
    match settings.similarity:
        case "mutual-knn":
            return MutualKnn(device=device)
        case "cka-biased":
            return Cka("biased", device=device)
        case "cka-minibatch":
            return Cka("minibatch", device=device)
        case "cka-debiased":
            return Cka("debiased", device=device)


def least_similarity(settings: RepresentationSettings) -> float:
    """Least similarity within a cluster if the study file sets no threshold.

    Args:
        settings: `representation` section of the study file.
    """
    return -1.0 if settings.similarity == "mutual-knn" else LEAST_CKA


def _among_all(
    similarity: np.ndarray, names: Sequence[str], left_out: Collection[str]
) -> np.ndarray:
    """A similarity matrix of all names; names that were left out are as unlike as can be."""
    matrix = 2.0 * np.eye(len(names)) - 1.0
    known = [n for n, name in enumerate(names) if name not in left_out]
    matrix[np.ix_(known, known)] = similarity
    return matrix


def _rows(matrix: np.ndarray) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float(value) for value in row) for row in matrix)
