"""Features of the alignment set's images: computed once per encoder, shared by all LLMs.

The encoder is frozen, so what it makes of an image is the same in every step of every candidate
that it is part of. Images are encoded in fixed groups of consecutive samples: a kernel may round
differently in batches of another size, and a candidate's result must not depend on whether a
group was found on disk.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mordal_optuna.alignment.data import AlignmentSet
    from mordal_optuna.models.towers import Encoder

# Samples whose images are encoded at once, at most.
_GROUP = 16


@dataclass(frozen=True)
class Prepared:
    """A group of samples on its way to features.

    Attributes:
        number: of the group.
        counts: images of each sample.
        pixels: images x channels x height x width; None where features were found.
        features: images x patches x width; None where they must be computed.
    """

    number: int
    counts: tuple[int, ...]
    pixels: torch.Tensor | None
    features: torch.Tensor | None


class FeatureCache:
    """Features on disk, a file a group, below an address made of all that shapes them."""

    def __init__(self, folder: Path, identity: Mapping[str, object], *, budget_bytes: int) -> None:
        """Keep features.

        Args:
            folder: of all caches.
            identity: what shapes the features; another one gets another folder.
            budget_bytes: for this encoder; the first groups are kept, as far as it goes.
        """
        text = json.dumps(identity, sort_keys=True)
        self._folder = folder / hashlib.sha256(text.encode()).hexdigest()[:24]
        self._identity = text
        self._budget = budget_bytes

    def get(self, number: int) -> torch.Tensor | None:
        """Features of a group; None where they are not there or cannot be read."""
        try:
            return load_file(self._path(number))["features"]
        except (FileNotFoundError, SafetensorError):
            return None  # computed again; a broken file is replaced

    def put(self, number: int, features: torch.Tensor) -> None:
        """Keep a group, if the budget reaches so far."""
        size = features.numel() * features.element_size()
        if (number + 1) * size > self._budget:
            return
        path = self._path(number)
        scratch = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
        if not self._folder.is_dir():
            self._folder.mkdir(parents=True, exist_ok=True)
            (self._folder / "identity.json").write_text(self._identity, encoding="utf-8")
        save_file({"features": features.contiguous()}, scratch)
        scratch.replace(path)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:08d}.safetensors"


class VisionFeatures:
    """What an encoder makes of the alignment set's images."""

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
            encoder: frozen.
            data: the samples.
            share: consecutive samples that are always asked for together.
            device: where the encoder lives.
            cache: features on disk; None computes them every time.
        """
        self._encoder = encoder
        self._data = data
        self._device = device
        self._cache = cache
        self._group = group_size(share)

    def prepare(self, positions: range, counts: Sequence[int]) -> list[Prepared]:
        """Read what is known of samples, or decode their images; may run in any thread.

        Args:
            positions: a whole share.
            counts: images of each sample in it.
        """
        size = self._group
        return [
            self._prepare(start // size, tuple(counts[start - positions.start :][:size]))
            for start in range(positions.start, positions.stop, size)
        ]

    def compute(self, prepared: Sequence[Prepared]) -> list[torch.Tensor]:
        """Features of each sample's images: images x patches x width, on the device."""
        found: list[torch.Tensor] = []
        for group in prepared:
            features = group.features
            if features is None:
                assert group.pixels is not None
                features = self._encode(group.pixels)
                if self._cache:
                    self._cache.put(group.number, features.cpu())
            found += features.to(self._device, non_blocking=True).split(list(group.counts))
        return found

    def _encode(self, pixels: torch.Tensor) -> torch.Tensor:
        if not len(pixels):
            return torch.empty(0, device=self._device)
        # Not inference mode: its tensors could not be saved for a backward pass.
        with torch.no_grad():
            return self._encoder.features(pixels.to(self._device, non_blocking=True))

    def _prepare(self, number: int, counts: tuple[int, ...]) -> Prepared:
        positions = range(number * self._group, (number + 1) * self._group)
        known = self._cache.get(number) if self._cache else None
        if known is not None and len(known) == sum(counts):
            return Prepared(number, counts, None, known)
        pictures = [one for p in positions for one in self._data.pictures(p)]
        pixels = self._encoder.read(pictures) if pictures else torch.empty(0)
        return Prepared(number, counts, pixels, None)


def group_size(share: int) -> int:
    """The largest divisor of a share that is no larger than 16."""
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
        encoder: identity of the encoder's checkpoint.
        data: the samples.
        precision: dtype of the encoder.
        share: consecutive samples that are asked for together.
        device: where they are computed.
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
