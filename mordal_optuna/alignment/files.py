"""Files of checkpoints, in a local folder or behind any fsspec address; loads no torch.

    <folder>/<run>/run.json                      identity that the run's address is the digest of
    <folder>/<run>/<samples>/<part>-<digest>.safetensors
    <folder>/<run>/<samples>/checkpoint.json     manifest: SHA-256 of the parts, and facts

A rung exists once its `checkpoint.json` exists, which is written last and atomically. Several
processes may write the same rung at once: workers of two studies, or a worker whose lease ran out.
Each of them checks its claim before it writes the manifest; the last manifest counts. A process
that is killed leaves files that no manifest names. The next process that writes the rung removes
them, unless their writer may still be alive and about to name them.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from mordal_optuna.errors import CheckpointError, LeaseLostError
from mordal_optuna.files.atomic import rename_durably
from mordal_optuna.files.hidden import without_password
from mordal_optuna.processes.guard import Token
from mordal_optuna.processes.liveness import has_ended, owner_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from mordal_optuna.processes.guard import Guard

_MANIFEST = "checkpoint.json"
_IDENTITY = "run.json"
# Longer than any writer takes between a part and the manifest that names it.
_ABANDONED_AFTER = timedelta(hours=1)


@dataclass(frozen=True)
class Manifest:
    """The content of a rung's `checkpoint.json`.

    Attributes:
        parts: SHA-256 of each part's file, by name of the part.
        facts: further JSON values that were stored with the rung.
        token: fencing token of the claim it was written under; None without a claim.
        digest: SHA-256 over the parts; rungs with the same digest hold the same numbers.
    """

    parts: Mapping[str, str]
    facts: Mapping[str, Any]
    token: Token | None = None

    @property
    def digest(self) -> str:
        """SHA-256 over the parts."""
        return _digest_of(dict(self.parts))

    def to_json(self) -> dict[str, Any]:
        """The JSON content, with a digest of itself."""
        content: dict[str, Any] = {"parts": dict(self.parts), "facts": dict(self.facts)}
        if self.token:
            content["token"] = asdict(self.token)
        return {**content, "self": _digest_of(content)}

    @staticmethod
    def from_json(content: dict[str, Any]) -> Manifest:
        """Read the result of `to_json`.

        Args:
            content: JSON content.

        Raises:
            ValueError: if the content does not match its digest.
        """
        written = {key: value for key, value in content.items() if key != "self"}
        if content.get("self") != _digest_of(written):
            raise ValueError("another digest")
        token = written.get("token")
        return Manifest(written["parts"], written["facts"], Token(**token) if token else None)


class CheckpointFiles:
    """Reads and writes the files of checkpoints; a rung is written whole or not at all."""

    def __init__(self, folder: str | Path) -> None:
        """Open a folder of checkpoints; it is made when the first file is written.

        Args:
            folder: local folder, or fsspec address such as `s3://bucket/mordal`.

        Raises:
            CheckpointError: if fsspec cannot open the address here.
        """
        try:
            self._fs, self._root = fsspec.core.url_to_fs(str(folder))
        except (ImportError, ValueError) as error:
            place = without_password(str(folder))
            raise CheckpointError(place, f"cannot be opened ({error})") from error
        self._local = isinstance(self._fs, LocalFileSystem)

    def runs(self) -> list[str]:
        """Addresses of all runs, sorted."""
        return sorted({path.split("/")[-2] for path in self._glob(_IDENTITY)})

    def identity(self, run: str) -> dict[str, Any]:
        """Read the identity of a run.

        Raises:
            CheckpointError: if it cannot be read.
        """
        identity: dict[str, Any] = self._read_json(run, _IDENTITY)
        return identity

    def rungs(self, run: str) -> list[int]:
        """Samples of a run's rungs, ascending."""
        return sorted(int(path.split("/")[-2]) for path in self._glob(run, "*", _MANIFEST))

    def manifest(self, run: str, samples: int) -> Manifest:
        """Read the manifest of a rung.

        Args:
            run: address of the run.
            samples: number of alignment samples at the rung.

        Raises:
            CheckpointError: if it is missing or damaged.
        """
        content = self._read_json(run, str(samples), _MANIFEST)
        try:
            return Manifest.from_json(content)
        except (KeyError, AttributeError, TypeError, ValueError) as error:
            raise CheckpointError(
                self._path(run, str(samples)),
                f"{_MANIFEST} does not read back as it was written; delete the folder",
            ) from error

    def size(self, run: str, samples: int) -> int:
        """Size of a rung's files in bytes."""
        return int(self._fs.du(self._path(run, str(samples))))

    def write(
        self,
        run: str,
        samples: int,
        identity: Mapping[str, Any],
        parts: Mapping[str, Callable[[Path], None]],
        facts: Mapping[str, Any],
        guard: Guard | None = None,
    ) -> Manifest:
        """Write a rung; an existing one is replaced once the new one is complete.

        Args:
            run: address of the run.
            samples: number of alignment samples at the rung.
            identity: dictionary that the address is the digest of.
            parts: function that writes a part to a path, by name of the part.
            facts: further JSON values.
            guard: claim under which the rung is written; None writes without a claim.

        Returns:
            The manifest that was written.

        Raises:
            CheckpointError: if the rung cannot be written; an existing one stays.
            LeaseLostError: if the claim was lost; an existing rung stays.
            StoreError: if the database cannot be asked whether the claim is held.
        """
        folder = self._path(run, str(samples))
        digests: dict[str, str] = {}
        try:
            self._fs.makedirs(folder, exist_ok=True)
            for name, write in parts.items():
                digests[name] = self._write_part(folder, name, write)
            if not self._fs.exists(self._path(run, _IDENTITY)):
                self._put_json(self._path(run, _IDENTITY), dict(identity))
            manifest = Manifest(digests, dict(facts), guard.token if guard else None)
            if guard:
                self._check_claim(run, samples, guard, str(facts.get("candidate") or run))
            self._put_json(f"{folder}/{_MANIFEST}", manifest.to_json())
            self._restore_missing(folder, digests, parts)
        except OSError as error:
            self._remove_unnamed(run, samples, digests)
            raise CheckpointError(folder, f"cannot be written ({error})") from error
        self._remove_abandoned(run, samples)
        return manifest

    @contextmanager
    def part(self, run: str, samples: int, name: str, digest: str) -> Iterator[Path]:
        """Give a part as a local file, after checking it against its digest.

        Args:
            run: address of the run.
            samples: number of alignment samples at the rung.
            name: name of the part.
            digest: SHA-256 of the part's file, from the manifest.

        Yields:
            Path of the local file, valid inside the block.

        Raises:
            CheckpointError: if the part is missing or damaged.
        """
        place = f"{self._path(run, str(samples))}/{_file(name, digest)}"
        with tempfile.TemporaryDirectory() as scratch:
            local = Path(place) if self._local else Path(scratch) / "part"
            try:
                if not self._local:
                    self._fs.get_file(place, str(local))
                actual = file_digest(local)
            except OSError as error:
                raise CheckpointError(place, f"cannot be read ({error})") from error
            if actual != digest:
                raise CheckpointError(
                    place, "does not read back as it was written; delete the folder it is in"
                )
            yield local

    def delete(self, run: str, samples: int) -> None:
        """Remove a rung; its manifest first, so that a partly deleted rung is not listed.

        Args:
            run: address of the run.
            samples: number of alignment samples at the rung.
        """
        folder = self._path(run, str(samples))
        with suppress(FileNotFoundError):  # another process deletes it as well
            self._fs.rm_file(f"{folder}/{_MANIFEST}")
            self._fs.rm(folder, recursive=True)

    def _path(self, *parts: str) -> str:
        return "/".join((self._root.rstrip("/"), *parts))

    def _glob(self, *pattern: str) -> list[str]:
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
        """A temporary file: in the target folder, or on this machine for a remote target.

        Its name holds this process's owner name, so that others see whether it was abandoned.
        """
        where = folder if self._local else None
        owner = owner_name().replace("/", "~")
        handle, path = tempfile.mkstemp(prefix=f".{name}~{owner}~", dir=where)
        os.close(handle)
        try:
            yield Path(path)
        finally:
            Path(path).unlink(missing_ok=True)

    def _place(self, local: Path, path: str) -> None:
        if not self._local:
            self._fs.put_file(str(local), path)
            return
        rename_durably(local, Path(path))

    def _check_claim(self, run: str, samples: int, guard: Guard, candidate: str) -> None:
        """Raise if a rung must not be written under this claim any more."""
        guard.check()
        with suppress(CheckpointError):  # there is none yet, or it is damaged
            if guard.token.is_superseded_by(self.manifest(run, samples).token):
                raise LeaseLostError(candidate)

    def _restore_missing(
        self,
        folder: str,
        digests: Mapping[str, str],
        parts: Mapping[str, Callable[[Path], None]],
    ) -> None:
        """Write parts again that another writer removed as abandoned before they were named."""
        self._fs.invalidate_cache(folder)
        for name, digest in digests.items():
            if not self._fs.exists(f"{folder}/{_file(name, digest)}"):
                self._write_part(folder, name, parts[name])

    def _remove_unnamed(self, run: str, samples: int, digests: Mapping[str, str]) -> None:
        """Remove the parts of a failed write, so that a full disk gets its space back."""
        folder, named = self._path(run, str(samples)), self._named(run, samples)
        with suppress(OSError):
            for name, digest in digests.items():
                if _file(name, digest) not in named:
                    self._fs.rm_file(f"{folder}/{_file(name, digest)}")
            if not named:
                self._fs.rmdir(folder)  # fails if another writer has files in it

    def _remove_abandoned(self, run: str, samples: int) -> None:
        """Remove files that killed writers have left in a rung's folder."""
        folder, named = self._path(run, str(samples)), self._named(run, samples)
        self._fs.invalidate_cache(folder)
        with suppress(OSError):  # others may delete the same files; the rung is complete
            for path in self._fs.ls(folder, detail=False):
                name = str(path).rsplit("/", 1)[-1]
                if name not in named and self._is_abandoned(folder, name):
                    self._fs.rm_file(path)

    def _named(self, run: str, samples: int) -> set[str]:
        """Names of the files of a rung; empty if it has no readable manifest."""
        try:
            parts = self.manifest(run, samples).parts
        except CheckpointError:
            return set()
        return {_MANIFEST, *(_file(name, digest) for name, digest in parts.items())}

    def _is_abandoned(self, folder: str, name: str) -> bool:
        """Whether no living process can still name a file that no manifest names."""
        _, *owner = name.split("~")
        if len(owner) == 4 and has_ended("/".join(owner[:3])):
            return True
        try:
            # Compared with the manifest just written, since both times are of the same clock.
            now = self._fs.modified(f"{folder}/{_MANIFEST}")
            return bool(now - self._fs.modified(f"{folder}/{name}") > _ABANDONED_AFTER)
        except NotImplementedError:
            return False  # the file system has no modification times


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, 64 hexadecimal digits.

    Raises:
        OSError: if the file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _file(name: str, digest: str) -> str:
    return f"{name}-{digest[:16]}.safetensors"


def _digest_of(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
