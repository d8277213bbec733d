"""A store of tensors by name, with JSON metadata, on disk or behind fsspec; loads torch.

It is a cache: a file that cannot be read counts as absent, and its content is computed again.
Several processes may write the same file at once; a reader sees one of them, or none.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import fsspec
from fsspec.implementations.local import LocalFileSystem
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from mordal_optuna.errors import ConfigError
from mordal_optuna.files.atomic import atomic_write
from mordal_optuna.files.hidden import without_password

if TYPE_CHECKING:
    from collections.abc import Mapping

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

    def __init__(self, folder: str | Path) -> None:
        """Open a store.

        Args:
            folder: folder of the files, or fsspec address such as `s3://bucket/features`; made
                when the first one is written.

        Raises:
            ConfigError: if fsspec cannot open the address here.
        """
        try:
            self._fs, root = fsspec.core.url_to_fs(str(folder))
        except (ImportError, ValueError) as error:
            place = without_password(str(folder))
            raise ConfigError([f"shared: {place!r} cannot be opened ({error})"]) from error
        self._folder = str(root).rstrip("/")
        self._local = isinstance(self._fs, LocalFileSystem)
        if self._local:
            self._folder = str(folder)

    @property
    def local_folder(self) -> Path | None:
        """The folder; None behind a remote address."""
        return Path(self._folder) if self._local else None

    def has(self, name: str) -> bool:
        """Whether a file is there, readable or not.

        Args:
            name: name of the file without its ending.
        """
        self._fs.invalidate_cache()
        return bool(self._fs.exists(self._path(name)))

    def get(self, name: str) -> Stored | None:
        """Read a file.

        Args:
            name: name of the file without its ending.

        Returns:
            The content; None if the file is absent or cannot be read, for example since it was
            cut off by a full disk.
        """
        if self._local:
            return _read(Path(self._path(name)))
        with tempfile.TemporaryDirectory() as scratch:
            local = Path(scratch) / "file"
            try:
                self._fs.get_file(self._path(name), str(local))
            except FileNotFoundError:
                return None
            return _read(local)

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
        metadata = dict(stored.metadata) or None
        if self._local:
            with atomic_write(Path(self._path(name)), durable=False) as temporary:
                save_file(tensors, temporary, metadata=metadata)
            return
        with tempfile.TemporaryDirectory() as scratch:
            local = Path(scratch) / "file"
            save_file(tensors, local, metadata=metadata)
            self._fs.makedirs(self._folder, exist_ok=True)
            self._fs.put_file(str(local), self._path(name))

    def _path(self, name: str) -> str:
        return f"{self._folder}/{name}.safetensors"


def _read(path: Path) -> Stored | None:
    try:
        with safe_open(path, "pt") as file:
            # not `.items()`: a safetensors file has `keys` alone
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            return Stored(tensors, file.metadata() or {})
    except (FileNotFoundError, SafetensorError):
        return None


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
