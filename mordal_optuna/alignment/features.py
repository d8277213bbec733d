"""Features of the alignment set's images: computed once per encoder, shared by all LLMs.

The encoder is frozen, so an image's features are the same in all steps of all candidates with that
encoder. Images are encoded in fixed groups of consecutive samples: kernels may round differently
at another batch size, and a candidate's result must not depend on which groups were cached.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

import torch

from mordal_optuna.errors import ConfigError
from mordal_optuna.files.tensors import Stored, TensorStore, address, identity_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mordal_optuna.alignment.data import AlignmentSet
    from mordal_optuna.models.towers import Encoder

# Largest number of samples whose images are encoded at once.
_GROUP = 16
# Hexadecimal digits of a cache's address: a folder's name.
_DIGITS = 24


@dataclass(frozen=True)
class Prepared:
    """A group of samples whose features are cached or can be computed.

    Attributes:
        number: number of the group, from 0.
        counts: number of images of each sample.
        pixels: images x channels x height x width; None if the features are cached.
        features: images x patches x width; None if they must be computed.
    """

    number: int
    counts: tuple[int, ...]
    pixels: torch.Tensor | None
    features: torch.Tensor | None


class FeatureCache:
    """Features on disk, one file per group, in a folder named by the digest of their identity."""

    def __init__(
        self, folder: str | Path, identity: Mapping[str, object], *, budget_bytes: int
    ) -> None:
        """Open the cache of one encoder's features.

        Args:
            folder: folder of all caches, or fsspec address.
            identity: JSON values that shape the features, see `feature_identity`.
            budget_bytes: largest size of this cache; the first groups are stored up to it.
        """
        self._files = TensorStore(f"{folder}/{address(identity, _DIGITS)}")
        self._identity = identity_text(identity)
        self._budget = budget_bytes

    def get(self, number: int) -> torch.Tensor | None:
        """Features of a group, images x patches x width; None if absent or not readable.

        Args:
            number: number of the group, from 0.
        """
        stored = self._files.get(f"{number:08d}")
        return stored.tensors["features"] if stored else None

    def put(self, number: int, features: torch.Tensor) -> None:
        """Store the features of a group, if the budget allows it.

        Args:
            number: number of the group, from 0.
            features: images x patches x width, on any device; they are moved to the CPU only if
                they are stored, since a move waits for the device.
        """
        if (number + 1) * features.nbytes > self._budget:
            return
        folder = self._files.local_folder
        if folder and not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "identity.json").write_text(self._identity, encoding="utf-8")
        self._files.put(f"{number:08d}", Stored({"features": features.cpu()}))


class VisionFeatures:
    """An encoder's features of the alignment set's images, computed or from a cache."""

    def __init__(
        self,
        encoder: Encoder,
        data: AlignmentSet,
        *,
        share: int,
        device: torch.device,
        cache: FeatureCache | None = None,
    ) -> None:
        """Compute features of samples.

        Args:
            encoder: frozen encoder.
            data: alignment set.
            share: number of consecutive samples that are always asked for together, at least 1.
            device: torch device of the encoder.
            cache: cache of features; None computes them every time.

        Raises:
            ConfigError: if the share is below 1.
        """
        self._encoder = encoder
        self._data = data
        self._device = device
        self._cache = cache
        self._group = group_size(share)

    def prepare(self, positions: range, counts: Sequence[int]) -> list[Prepared]:
        """Read the cached features of samples, or decode their images; may run in any thread.

        Args:
            positions: positions of a whole share of samples in the alignment set.
            counts: number of images of each of these samples.

        Raises:
            DataError: if an image cannot be decoded.
        """
        size = self._group
        return [
            self._prepare(start // size, tuple(counts[start - positions.start :][:size]))
            for start in range(positions.start, positions.stop, size)
        ]

    def compute(self, prepared: Sequence[Prepared]) -> list[torch.Tensor]:
        """Compute the features that were not cached, and cache them.

        Args:
            prepared: groups from `prepare`.

        Returns:
            Features of each sample's images, images x patches x width, on the device.
        """
        by_sample: list[torch.Tensor] = []
        for group in prepared:
            features = group.features
            if features is None:
                assert group.pixels is not None
                features = self._encode(group.pixels)
                if self._cache:
                    self._cache.put(group.number, features)
            by_sample += features.to(self._device, non_blocking=True).split(list(group.counts))
        return by_sample

    def _encode(self, pixels: torch.Tensor) -> torch.Tensor:
        if not len(pixels):
            return torch.empty(0, device=self._device)
        # Not inference mode, whose tensors cannot be saved for a backward pass.
        with torch.no_grad():
            return self._encoder.features(pixels.to(self._device, non_blocking=True))

    def _prepare(self, number: int, counts: tuple[int, ...]) -> Prepared:
        positions = range(number * self._group, (number + 1) * self._group)
        cached = self._cache.get(number) if self._cache else None
        if cached is not None and len(cached) == sum(counts):
            return Prepared(number, counts, None, cached)
        pictures = [one for p in positions for one in self._data.pictures(p)]
        pixels = self._encoder.read(pictures) if pictures else torch.empty(0)
        return Prepared(number, counts, pixels, None)


def group_size(share: int) -> int:
    """Number of samples that are encoded at once: the largest divisor of a share up to 16.

    Args:
        share: number of consecutive samples that are asked for together, at least 1.

    Raises:
        ConfigError: if the share is below 1.
    """
    if share < 1:
        raise ConfigError([f"share: got {share} samples; it must be at least 1"])
    return max(size for size in range(1, _GROUP + 1) if share % size == 0)


def feature_identity(
    encoder: Mapping[str, object],
    data: AlignmentSet,
    *,
    precision: str,
    share: int,
    device: torch.device,
) -> dict[str, object]:
    """Everything that shapes cached features, down to their last bit.

    Args:
        encoder: identity of the encoder, see `model_identity`.
        data: alignment set.
        precision: `fp32` or `bf16`, the dtype of the encoder.
        share: number of consecutive samples that are asked for together.
        device: torch device that computes the features.

    Returns:
        Dictionary of JSON values.
    """
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {
        "encoder": dict(encoder),
        "data": data.digest,
        "precision": precision,
        "group": group_size(share),
        "device": name,
        "libraries": {name: version(name) for name in ("torch", "transformers", "pillow")},
    }
