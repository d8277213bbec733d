"""What the comparison of models computes, kept on disk with its cost.

That is features of models on a task's images, and warmed-up projectors, which serve all tasks. A
study that was interrupted, or another one, finds them. Their cost is the device-seconds it took to
compute them, whoever did, so a study's cost does not depend on how often it was interrupted.
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
class Computed:
    """Arrays and what they cost.

    Attributes:
        arrays: by name; `features` are images x width.
        seconds: device-seconds by part, such as warmup and features.
    """

    arrays: Mapping[str, np.ndarray]
    seconds: Mapping[str, float]


class ComputedStore:
    """Arrays by all that shapes them."""

    def __init__(self, folder: Path) -> None:
        """Keep arrays under a folder; made when the first are saved."""
        self._folder = folder

    def get(self, identity: Mapping[str, object]) -> Computed | None:
        """What is kept of an identity; None where it is not there or cannot be read."""
        path = self._path(identity)
        if not path.is_file():
            return None
        try:
            with safe_open(path, "numpy") as file:
                seconds = json.loads(file.metadata()["seconds"])
                # not `.items()`: a safetensors file has `keys` alone
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                return Computed(arrays, seconds)
        except SafetensorError:
            return None  # cut off by a full disk or a crash: computed again

    def put(self, identity: Mapping[str, object], computed: Computed) -> None:
        """Keep arrays; written whole or not at all."""
        path = self._path(identity)
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
        facts = {
            "seconds": json.dumps(dict(computed.seconds)),
            "identity": json.dumps(identity, sort_keys=True),
        }
        save_file(dict(computed.arrays), scratch, metadata=facts)
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
