"""Files of checkpoints, in a local folder or behind any fsspec address; loads no torch.

    <folder>/<run>/run.json                      what the run's address was made of
    <folder>/<run>/<samples>/<part>-<digest>.safetensors
    <folder>/<run>/<samples>/checkpoint.json     the rung's parts with their SHA-256, and its facts

A rung counts once its `checkpoint.json` is there, which is written last and as a whole. Several
may write a rung at once: workers of two studies, or one that was thought dead. Each first makes
sure that it still may, and the last `checkpoint.json` counts. A process that is killed leaves
files that no `checkpoint.json` names; the next one that writes the rung removes them, once nobody
can be about to name them.
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
from mordal_optuna.processes.guard import Token
from mordal_optuna.processes.liveness import has_ended, owner_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from mordal_optuna.processes.guard import Guard

_MANIFEST = "checkpoint.json"
_IDENTITY = "run.json"
# Longer than any writer takes from a part to the manifest that names it.
_LEFT_OVER = timedelta(hours=1)


@dataclass(frozen=True)
class Manifest:
    """What a rung consists of.

    Attributes:
        parts: SHA-256 of each part's file, by the part's name.
        facts: what else was told when it was written.
        token: in whose name it was written; None where nobody was asked.
        digest: SHA-256 over the parts: two rungs of the same digest hold the same numbers.
    """

    parts: Mapping[str, str]
    facts: Mapping[str, Any]
    token: Token | None = None

    @property
    def digest(self) -> str:
        """SHA-256 over the parts."""
        return _digest_of(dict(self.parts))

    def to_json(self) -> dict[str, Any]:
        """As it is written, with a digest of its own."""
        content: dict[str, Any] = {"parts": dict(self.parts), "facts": dict(self.facts)}
        if self.token:
            content["token"] = asdict(self.token)
        return {**content, "self": _digest_of(content)}

    @staticmethod
    def from_json(content: dict[str, Any]) -> Manifest:
        """Inverse of `to_json`.

        Raises:
            ValueError: if it was changed since it was written.
        """
        written = {key: value for key, value in content.items() if key != "self"}
        if content.get("self") != _digest_of(written):
            raise ValueError("another digest")
        token = written.get("token")
        return Manifest(written["parts"], written["facts"], Token(**token) if token else None)


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
            return Manifest.from_json(content)
        except (KeyError, AttributeError, TypeError, ValueError) as error:
            raise CheckpointError(
                self._path(run, str(samples)),
                f"{_MANIFEST} does not read back as it was written; delete the folder",
            ) from error

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
        guard: Guard | None = None,
    ) -> Manifest:
        """Write a rung; one that is already there is replaced once the new one is whole.

        Args:
            run: its address.
            samples: the rung.
            identity: what the address was made of.
            parts: writes each part to a path.
            facts: further facts, as JSON has them.
            guard: the claim it is written under; None writes whatever others do.

        Raises:
            CheckpointError: if it cannot be written; what was there before stays.
            LeaseLostError: if the claim was lost; what is there stays.
            StoreError: if nobody can say whether it was.
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
                self._check(run, samples, guard, str(facts.get("candidate") or run))
            self._put_json(f"{folder}/{_MANIFEST}", manifest.to_json())
            self._complete(folder, digests, parts)
        except OSError as error:
            self._take_back(run, samples, digests)
            raise CheckpointError(folder, f"cannot be written ({error})") from error
        self._sweep(run, samples)
        return manifest

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
        with suppress(FileNotFoundError):  # another one deletes it, too
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
        # On the disk before it has its name, so that the name never outruns the content.
        with local.open("rb") as file:
            os.fsync(file.fileno())
        local.replace(path)

    def _check(self, run: str, samples: int, guard: Guard, candidate: str) -> None:
        """Make sure that a rung may be written now under a claim."""
        guard.check()
        with suppress(CheckpointError):  # there is none yet, or a damaged one
            if guard.token.yields_to(self.manifest(run, samples).token):
                raise LeaseLostError(candidate)

    def _complete(
        self,
        folder: str,
        digests: Mapping[str, str],
        parts: Mapping[str, Callable[[Path], None]],
    ) -> None:
        """Write parts again that another writer took for left over before they were named."""
        self._fs.invalidate_cache(folder)
        for name, digest in digests.items():
            if not self._fs.exists(f"{folder}/{_file(name, digest)}"):
                self._write_part(folder, name, parts[name])

    def _take_back(self, run: str, samples: int, digests: Mapping[str, str]) -> None:
        """Remove parts that could not be completed, so that a full disk gets its space back."""
        folder, named = self._path(run, str(samples)), self._named(run, samples)
        with suppress(OSError):
            for name, digest in digests.items():
                if _file(name, digest) not in named:
                    self._fs.rm_file(f"{folder}/{_file(name, digest)}")
            if not named:
                self._fs.rmdir(folder)  # fails where another writer has files in it

    def _sweep(self, run: str, samples: int) -> None:
        """Remove what writers that were killed have left in a rung's folder."""
        folder, named = self._path(run, str(samples)), self._named(run, samples)
        self._fs.invalidate_cache(folder)
        with suppress(OSError):  # others sweep and delete as well; the rung is whole already
            for path in self._fs.ls(folder, detail=False):
                name = str(path).rsplit("/", 1)[-1]
                if name not in named and self._is_left_over(folder, name):
                    self._fs.rm_file(path)

    def _named(self, run: str, samples: int) -> set[str]:
        """The files that make a rung; none where it does not count."""
        try:
            parts = self.manifest(run, samples).parts
        except CheckpointError:
            return set()
        return {_MANIFEST, *(_file(name, digest) for name, digest in parts.items())}

    def _is_left_over(self, folder: str, name: str) -> bool:
        """Whether nobody can be about to name a file that no manifest names."""
        _, *owner = name.split("~")
        if len(owner) == 4 and has_ended("/".join(owner[:3])):
            return True
        try:
            # The manifest is new: both times are of the same clock.
            now = self._fs.modified(f"{folder}/{_MANIFEST}")
            return bool(now - self._fs.modified(f"{folder}/{name}") > _LEFT_OVER)
        except NotImplementedError:
            return False  # this kind of place knows no times


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _file(name: str, digest: str) -> str:
    return f"{name}-{digest[:16]}.safetensors"


def _digest_of(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
