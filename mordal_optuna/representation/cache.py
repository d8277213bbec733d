"""Features of models on a task's images, kept on disk with what they cost.

A study that was interrupted, or another one on the same images, finds them. Their cost is the
device-seconds it took to compute them, whoever did, so a study's cost does not depend on how often
it was interrupted.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from PIL.Image import Image


@dataclass(frozen=True)
class Features:
    """What a model makes of images.

    Attributes:
        values: images x width, float64.
        seconds: device-seconds by part, such as warmup and features.
    """

    values: np.ndarray
    seconds: Mapping[str, float]


class FeatureStore:
    """Features by all that shapes them."""

    def __init__(self, folder: Path) -> None:
        """Keep features under a folder; made when the first are saved."""
        self._folder = folder

    def get(self, identity: Mapping[str, object]) -> Features | None:
        """Features of an identity; None where they are not there or cannot be read."""
        path = self._path(identity)
        if not path.is_file():
            return None
        try:
            with safe_open(path, "numpy") as file:
                seconds = json.loads(file.metadata()["seconds"])
                return Features(file.get_tensor("features"), seconds)
        except SafetensorError:
            return None  # cut off by a full disk or a crash: computed again

    def put(self, identity: Mapping[str, object], features: Features) -> None:
        """Keep features; written whole or not at all."""
        path = self._path(identity)
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
        facts = {
            "seconds": json.dumps(dict(features.seconds)),
            "identity": json.dumps(identity, sort_keys=True),
        }
        save_file({"features": features.values}, scratch, metadata=facts)
        scratch.replace(path)

    def _path(self, identity: Mapping[str, object]) -> Path:
        text = json.dumps(identity, sort_keys=True)
        return self._folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.safetensors"


def images_digest(images: Sequence[Image]) -> str:
    """SHA-256 of images' sizes and pixels."""
    content = hashlib.sha256()
    for image in images:
        content.update(f"{image.mode}:{image.size}".encode())
        content.update(image.tobytes())
    return content.hexdigest()
