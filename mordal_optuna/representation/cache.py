"""Store of what the comparison of models computes, with its cost.

It holds features of models on a task's images, and warmed-up projectors, which all tasks share. An
interrupted study, or another study, finds them there. The cost is the device-seconds that the
computation took when it was done, so a study's cost does not depend on what was stored before.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from mordal_optuna.files.tensors import Stored, TensorStore, address, identity_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from PIL.Image import Image

# Hexadecimal digits of an address: a file's name.
_DIGITS = 32


@dataclass(frozen=True)
class Computed:
    """Arrays and their cost.

    Attributes:
        arrays: arrays by name; `features` are images x width.
        seconds: device-seconds by part, such as `warmup` and `features`.
        study: name of the study that computed them; empty in files of older versions.
    """

    arrays: Mapping[str, np.ndarray]
    seconds: Mapping[str, float]
    study: str = ""


class ComputedStore:
    """Arrays and their cost on disk, by an identity of everything that shapes them."""

    def __init__(self, folder: str | Path) -> None:
        """Open a store.

        Args:
            folder: folder of the files, or fsspec address; made when the first one is written.

        Raises:
            ConfigError: if fsspec cannot open the address here.
        """
        self._files = TensorStore(folder)

    def has(self, identity: Mapping[str, object]) -> bool:
        """Whether arrays are stored, readable or not.

        Args:
            identity: JSON values that shape the arrays.
        """
        return self._files.has(address(identity, _DIGITS))

    def get(self, identity: Mapping[str, object]) -> Computed | None:
        """Read stored arrays.

        Args:
            identity: JSON values that shape the arrays.

        Returns:
            The arrays and their cost; None if they are not stored or cannot be read.
        """
        stored = self._files.get(address(identity, _DIGITS))
        if stored is None:
            return None
        arrays = {name: tensor.numpy() for name, tensor in stored.tensors.items()}
        metadata = stored.metadata
        return Computed(arrays, json.loads(metadata["seconds"]), metadata.get("study", ""))

    def put(self, identity: Mapping[str, object], computed: Computed) -> None:
        """Store arrays and their cost.

        Args:
            identity: JSON values that shape the arrays.
            computed: arrays and cost.

        Raises:
            OSError: if they cannot be written.
        """
        tensors = {
            name: torch.from_numpy(np.ascontiguousarray(array))
            for name, array in computed.arrays.items()
        }
        metadata = {
            "seconds": json.dumps(dict(computed.seconds)),
            "identity": identity_text(identity),
            "study": computed.study,
        }
        self._files.put(address(identity, _DIGITS), Stored(tensors, metadata))


def images_digest(images: Sequence[Image]) -> str:
    """SHA-256 of images' modes, sizes and pixels, 64 hexadecimal digits.

    Args:
        images: decoded images.
    """
    content = hashlib.sha256()
    for image in images:
        content.update(f"{image.mode}:{image.size}".encode())
        content.update(image.tobytes())
    return content.hexdigest()
