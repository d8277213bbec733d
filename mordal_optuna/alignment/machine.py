"""Where candidates are trained: device, ranks and caches of this process."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from mordal_optuna.alignment.checkpoint import model_identity
from mordal_optuna.alignment.features import FeatureCache, feature_identity
from mordal_optuna.alignment.timing import Clock
from mordal_optuna.files.digests import FileDigests
from mordal_optuna.models.loading import load_config
from mordal_optuna.processes.group import Processes
from mordal_optuna.processes.stopping import StopRequest

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from mordal_optuna.alignment.data import AlignmentSet
    from mordal_optuna.config import AlignmentSettings
    from mordal_optuna.pool import ModelSource


@dataclass(frozen=True)
class Machine:
    """Device, ranks and caches for training; they change no result except for rounding.

    Attributes:
        device: torch device of this process.
        features: folder of cached encoder features; None computes features every time.
        shared_features: folder or fsspec address of cached features that several workers use, in
            place of `features`; None for that.
        feature_bytes: largest size in bytes of one encoder's cached features.
        threads: number of threads that decode images, and of processes that count tokens.
        trackers: names of Accelerate's trackers.
        project: prefix of the names of runs in trackers.
        logs: folder for trackers that write files.
        processes: ranks of this launch, which train each candidate together.
        files: digests of models' files, each read once.
        stop: whether this process was asked to end; training then ends after the present step.
    """

    device: torch.device
    features: Path | None = None
    feature_bytes: int = 0
    shared_features: str | None = None
    threads: int = 2
    trackers: tuple[str, ...] = ()
    project: str = "mordal"
    logs: str = "."
    processes: Processes = field(default_factory=Processes)
    files: FileDigests = field(default_factory=FileDigests)
    stop: StopRequest = field(default_factory=StopRequest)

    @property
    def lengths(self) -> Path | None:
        """Folder of samples' numbers of tokens, beside that of features; None keeps none."""
        return self.features.with_name("lengths") if self.features else None

    @cached_property
    def clock(self) -> Clock:
        """Counts where the time of the present candidate goes."""
        return Clock(self.device)

    def cache(
        self,
        encoder: ModelSource,
        data: AlignmentSet,
        settings: AlignmentSettings,
        processes: int,
    ) -> FeatureCache | None:
        """Open the cache of an encoder's features of the alignment set.

        Args:
            encoder: the vision encoder.
            data: alignment set.
            settings: alignment recipe.
            processes: number of ranks that share a batch.

        Returns:
            The cache; None if features are not cached.
        """
        if self.features is None or not self.feature_bytes:
            return None
        identity = feature_identity(
            model_identity(encoder, load_config(encoder), self.files),
            data,
            precision=settings.precision,
            share=settings.batch_size // processes,
            device=self.device,
        )
        folder = self.shared_features or self.features
        return FeatureCache(folder, identity, budget_bytes=self.feature_bytes)
