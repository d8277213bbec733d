"""A store of tensors on disk, by name, with JSON metadata; loads torch.

It is a cache: a file that cannot be read counts as absent, and its content is computed again.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from mordal_optuna.files.atomic import atomic_write

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch


@dataclass(frozen=True)
class Stored:
    """The content of one file.

    Attributes:
        tensors: tensors on the CPU, by name.
        metadata: JSON texts, by name.
    """

    tensors: Mapping[str, torch.Tensor]
    metadata: Mapping[str, str] = field(default_factory=dict)


class TensorStore:
    """Files `<folder>/<name>.safetensors`."""

    def __init__(self, folder: Path) -> None:
        """Open a store.

        Args:
            folder: folder of the files; made when the first one is written.
        """
        self._folder = folder

    def get(self, name: str) -> Stored | None:
        """Read a file.

        Args:
            name: name of the file without its ending.

        Returns:
            The content; None if the file is absent or cannot be read, for example since it was
            cut off by a full disk.
        """
        try:
            with safe_open(self._path(name), "pt") as file:
                # not `.items()`: a safetensors file has `keys` alone
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
                return Stored(tensors, file.metadata() or {})
        except (FileNotFoundError, SafetensorError):
            return None

    def put(self, name: str, stored: Stored) -> None:
        """Write a file, replacing an existing one.

        Args:
            name: name of the file without its ending.
            stored: the content.

        Raises:
            OSError: if it cannot be written.
            SafetensorError: if the disk is full.
        """
        tensors = {key: tensor.contiguous() for key, tensor in stored.tensors.items()}
        with atomic_write(self._path(name), durable=False) as temporary:
            save_file(tensors, temporary, metadata=dict(stored.metadata) or None)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.safetensors"


def address(identity: Mapping[str, object], digits: int) -> str:
    """Address of content that is shaped by an identity.

    Args:
        identity: JSON values that shape the content.
        digits: length of the address, at most 64.

    Returns:
        The first hexadecimal digits of SHA-256 of the identity.
    """
    return hashlib.sha256(identity_text(identity).encode()).hexdigest()[:digits]


def identity_text(identity: Mapping[str, object]) -> str:
    """The JSON text of an identity, which is the same for equal identities."""
    return json.dumps(identity, sort_keys=True)
