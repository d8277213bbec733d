"""Files of checkpoints, in a local folder or behind any fsspec address; loads no torch.

    <folder>/<run>/run.json                      what the run's address was made of
    <folder>/<run>/<samples>/<part>-<digest>.safetensors
    <folder>/<run>/<samples>/checkpoint.json     the rung's parts with their SHA-256, and its facts

A rung counts once its `checkpoint.json` is there, which is written last and as a whole. A process
that is killed, or a disk that is full, leaves files that no `checkpoint.json` names; the next one
that writes the rung removes them.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from mordal_optuna.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_MANIFEST = "checkpoint.json"
_IDENTITY = "run.json"


@dataclass(frozen=True)
class Manifest:
    """What a rung consists of.

    Attributes:
        parts: SHA-256 of each part's file, by the part's name.
        facts: what else was told when it was written.
        digest: SHA-256 over the parts: two rungs of the same digest hold the same numbers.
    """

    parts: Mapping[str, str]
    facts: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """SHA-256 over the parts."""
        return _digest_of(dict(self.parts))


class CheckpointFiles:
    """Parts of rungs by name, written whole or not at all."""

    def __init__(self, folder: str | Path) -> None:
        """Keep files under a folder; made when the first one is written.

        Args:
            folder: a local folder, or an fsspec address such as `s3://bucket/mordal`.

        Raises:
            CheckpointError: if the address is of a kind that cannot be opened here.
        """
        try:
            self._fs, self._root = fsspec.core.url_to_fs(str(folder))
        except (ImportError, ValueError) as error:
            raise CheckpointError(str(folder), f"cannot be opened ({error})") from error
        self._local = isinstance(self._fs, LocalFileSystem)

    def runs(self) -> list[str]:
        """Addresses of the runs that are kept."""
        return sorted({path.split("/")[-2] for path in self._found(_IDENTITY)})

    def identity(self, run: str) -> dict[str, Any]:
        """What a run's address was made of.

        Raises:
            CheckpointError: if it cannot be read.
        """
        found: dict[str, Any] = self._read_json(run, _IDENTITY)
        return found

    def rungs(self, run: str) -> list[int]:
        """Samples of a run's rungs, ascending."""
        return sorted(int(path.split("/")[-2]) for path in self._found(run, "*", _MANIFEST))

    def manifest(self, run: str, samples: int) -> Manifest:
        """What a rung consists of.

        Raises:
            CheckpointError: if it is missing or damaged.
        """
        content = self._read_json(run, str(samples), _MANIFEST)
        try:
            if content.pop("self") == _digest_of(content):
                return Manifest(content["parts"], content["facts"])
        except (KeyError, AttributeError, TypeError):
            pass
        raise CheckpointError(
            self._path(run, str(samples)),
            f"{_MANIFEST} does not read back as it was written; delete the folder",
        )

    def size(self, run: str, samples: int) -> int:
        """Bytes of a rung."""
        return int(self._fs.du(self._path(run, str(samples))))

    def write(
        self,
        run: str,
        samples: int,
        identity: Mapping[str, Any],
        parts: Mapping[str, Callable[[Path], None]],
        facts: Mapping[str, Any],
    ) -> Manifest:
        """Write a rung; one that is already there is replaced once the new one is whole.

        Args:
            run: its address.
            samples: the rung.
            identity: what the address was made of.
            parts: writes each part to a path.
            facts: further facts, as JSON has them.

        Raises:
            CheckpointError: if it cannot be written; what was there before stays.
        """
        folder = self._path(run, str(samples))
        try:
            self._fs.makedirs(folder, exist_ok=True)
            digests = {
                name: self._write_part(folder, name, write) for name, write in parts.items()
            }
            if not self._fs.exists(self._path(run, _IDENTITY)):
                self._put_json(self._path(run, _IDENTITY), dict(identity))
            content: dict[str, Any] = {"parts": digests, "facts": dict(facts)}
            content["self"] = _digest_of(content)
            self._put_json(f"{folder}/{_MANIFEST}", content)
        except OSError as error:
            raise CheckpointError(folder, f"cannot be written ({error})") from error
        finally:
            self._sweep(run, samples)
        return Manifest(digests, dict(facts))

    @contextmanager
    def part(self, run: str, samples: int, name: str) -> Iterator[Path]:
        """A part as a local file, after checking it against its digest.

        Raises:
            CheckpointError: if it is missing or damaged.
        """
        digest = self.manifest(run, samples).parts[name]
        place = f"{self._path(run, str(samples))}/{_file(name, digest)}"
        with tempfile.TemporaryDirectory() as scratch:
            local = Path(place) if self._local else Path(scratch) / "part"
            try:
                if not self._local:
                    self._fs.get_file(place, str(local))
                found = file_digest(local)
            except OSError as error:
                raise CheckpointError(place, f"cannot be read ({error})") from error
            if found != digest:
                raise CheckpointError(
                    place, "does not read back as it was written; delete the folder it is in"
                )
            yield local

    def delete(self, run: str, samples: int) -> None:
        """Remove a rung; its manifest goes first, so that it never counts half."""
        folder = self._path(run, str(samples))
        self._fs.rm_file(f"{folder}/{_MANIFEST}")
        self._fs.rm(folder, recursive=True)

    def _path(self, *parts: str) -> str:
        return "/".join((self._root.rstrip("/"), *parts))

    def _found(self, *pattern: str) -> list[str]:
        if len(pattern) == 1:
            pattern = ("*", *pattern)
        return [str(path) for path in self._fs.glob(self._path(*pattern))]

    def _read_json(self, *parts: str) -> Any:
        path = self._path(*parts)
        try:
            return json.loads(self._fs.cat_file(path))
        except (OSError, ValueError) as error:
            raise CheckpointError(path, f"cannot be read ({error})") from error

    def _write_part(self, folder: str, name: str, write: Callable[[Path], None]) -> str:
        with self._scratch(folder, name) as local:
            write(local)
            digest = file_digest(local)
            self._place(local, f"{folder}/{_file(name, digest)}")
        return digest

    def _put_json(self, path: str, content: Mapping[str, Any]) -> None:
        folder, name = path.rsplit("/", 1)
        with self._scratch(folder, name) as local:
            local.write_text(json.dumps(content, indent=2, sort_keys=True), encoding="utf-8")
            self._place(local, path)

    @contextmanager
    def _scratch(self, folder: str, name: str) -> Iterator[Path]:
        """A file to write to: beside its place, or on this machine for a place elsewhere."""
        where = folder if self._local else None
        handle, path = tempfile.mkstemp(prefix=f".{name}-", dir=where)
        os.close(handle)
        try:
            yield Path(path)
        finally:
            Path(path).unlink(missing_ok=True)

    def _place(self, local: Path, path: str) -> None:
        if not self._local:
            self._fs.put_file(str(local), path)
            return
        # On the disk before it has its name, so that the name never outruns the content.
        with local.open("rb") as file:
            os.fsync(file.fileno())
        local.replace(path)

    def _sweep(self, run: str, samples: int) -> None:
        """Remove what no manifest names: left by a writer that was killed or found no space."""
        folder = self._path(run, str(samples))
        if not self._fs.isdir(folder):
            return
        named: set[str] = set()
        if self._fs.exists(f"{folder}/{_MANIFEST}"):
            parts = self._read_json(run, str(samples), _MANIFEST)["parts"]
            named = {_MANIFEST, *(_file(name, digest) for name, digest in parts.items())}
        for path in self._fs.ls(folder, detail=False):
            if str(path).rsplit("/", 1)[-1] not in named:
                self._fs.rm_file(path)
        if not named:
            self._fs.rmdir(folder)


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _file(name: str, digest: str) -> str:
    return f"{name}-{digest[:16]}.safetensors"


def _digest_of(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
