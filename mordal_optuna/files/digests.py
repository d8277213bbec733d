"""Digests of files and of local model folders; loads no torch.

Scores are stored under digests of content, never of locations or times: a copied model is the
same model. Sizes and times only decide whether a file is read again.
"""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mordal_optuna.processes.outages import is_outage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

T = TypeVar("T")

# Size above which safetensors files are digested by blocks of every tensor, and a block's size.
_WHOLE_BYTES = 1 << 28
_BLOCK_BYTES = 1 << 12
# Size in bytes, and times of the last change of content and inode in nanoseconds, by path.
States = dict[str, tuple[int, int, int]]


class FileDigests:
    """SHA-256 of file contents; a file is read again only if its size or times changed.

    For safetensors files above 256 MiB the digest covers the header and the first, middle and last
    4 KiB of every tensor, which differ after further training. A change of a large tensor outside
    these blocks is not detected.
    """

    def __init__(self) -> None:
        """Start with an empty cache."""
        self._cache: dict[str, tuple[tuple[int, int, int], str]] = {}
        self._known: dict[str, Any] = {}

    def once(self, key: str, read: Callable[[], T]) -> T:
        """What never changes, such as a commit's files, read once.

        Args:
            key: what is read.
            read: reads it.
        """
        if key not in self._known:
            self._known[key] = read()
        value: T = self._known[key]
        return value

    def of(self, path: Path) -> str:
        """Digest of a file, 64 hexadecimal digits.

        Args:
            path: path of the file.

        Raises:
            OSError: if the file cannot be read.
        """
        state = _state(path)
        cached = self._cache.get(str(path))
        if cached is None or cached[0] != state:
            sampled = path.suffix == ".safetensors" and state[0] > _WHOLE_BYTES
            cached = (state, _sampled(path) if sampled else _whole(path))
            self._cache[str(path)] = cached
        return cached[1]


class ModelFolder:
    """Digests of a local model, grouped by the purpose of its files.

    Attributes:
        digests: digest by aspect: weights, configuration, tokenizer, chat template, image
            processor, code; any other JSON file is an aspect of its own, under its file name.
    """

    def __init__(
        self, folder: Path, files: FileDigests, options: Mapping[str, str] | None = None
    ) -> None:
        """Digest the files of a model folder.

        Args:
            folder: folder with `config.json` and safetensors weights.
            files: computes and caches the digests of files.
            options: further aspects, with their values in place of a digest.

        Raises:
            OSError: if a file cannot be read.
        """
        self._folder = folder
        self._states = file_states(_model_files(folder))
        self.digests = {**_model_digests(folder, files), **(options or {})}

    def unchanged(self, samples: int) -> bool:  # noqa: ARG002 - models do not grow with samples
        """Whether sizes and times of all files are as recorded; microseconds per file."""
        return file_states(_model_files(self._folder)) == self._states


def file_states(paths: Iterable[Path]) -> States:
    """Sizes and times of files; those that are missing or have no possible name are left out.

    Args:
        paths: paths of the files.
    """
    states = {}
    for path in paths:
        try:
            states[str(path)] = _state(path)
        except (OSError, ValueError) as error:  # such as a name that no file can have
            if is_outage(error):
                raise
    return states


def files_below(place: Path) -> list[Path]:
    """All files of a folder and its subfolders, sorted; for a file, the file itself.

    Args:
        place: path of a folder or a file.
    """
    if place.is_file():
        return [place]
    return sorted(path for path in place.rglob("*") if path.is_file())


def cache_folder(data: Path) -> Path:
    """A separate cache folder of `datasets` for every state of local data.

    `datasets` distinguishes local folders only by their last name and configuration: a second
    folder named `scenes`, or a folder whose files changed, would yield the rows of the first.

    Args:
        data: path of a data folder or file.
    """
    from datasets.config import HF_DATASETS_CACHE

    state = hashlib.sha256(str(data.absolute()).encode())
    for path in files_below(data):
        status = path.stat()
        state.update(f"{path}:{status.st_size}:{status.st_mtime_ns}".encode())
    return Path(HF_DATASETS_CACHE) / "mordal" / state.hexdigest()[:24]


def joined(digests: Mapping[str, str | None]) -> str:
    """One digest of several named digests.

    Args:
        digests: digest by name.
    """
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


def _state(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _whole(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def safetensors_size(path: Path) -> int:
    """Size in bytes that a whole safetensors file has, by its header; reads no tensor.

    Args:
        path: path of the file.

    Raises:
        ValueError: if it has no such header.
        OSError: if the file cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if 8 + length > size:
            raise ValueError(f"its {size:,} bytes hold no header")
        header = json.loads(file.read(length))
    try:
        ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name[:2] != "__"]
    except (AttributeError, KeyError, TypeError, IndexError) as error:
        raise ValueError("its header lists no tensors") from error
    return 8 + int(length) + max(ends, default=0)


def _sampled(path: Path) -> str:
    """Digest of the size, the header and blocks of every tensor of a safetensors file."""
    size = path.stat().st_size
    content = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = file.read(length)
        content.update(header)
        for name, tensor in sorted(json.loads(header).items()):
            if name == "__metadata__":
                continue
            begin, end = tensor["data_offsets"]
            last = max(begin, end - _BLOCK_BYTES)
            for start in (begin, (begin + last) // 2, last):
                file.seek(8 + length + start)
                content.update(file.read(min(_BLOCK_BYTES, end - start)))
    return content.hexdigest()


def _model_files(folder: Path) -> list[Path]:
    """Files of a model that transformers may read; documentation is left out."""
    templates = folder / "additional_chat_templates"
    paths = [*folder.iterdir(), *(templates.iterdir() if templates.is_dir() else ())]
    return sorted(path for path in paths if path.is_file() and aspect_of(path) is not None)


def aspect_of(path: Path) -> str | None:
    """Purpose of a model's file; its name if the purpose is unknown, None if it is not read.

    Args:
        path: path of the file.
    """
    name, suffix = path.name, path.suffix
    if suffix == ".jinja" or name.startswith("chat_template"):
        return "chat template"
    if suffix == ".safetensors" or name.endswith(".safetensors.index.json"):
        return "weights"
    if suffix == ".py":
        return "code"
    if name == "config.json":
        return "configuration"
    if name.endswith("processor_config.json"):
        return "image processor"
    tokenizers = ("tokenizer", "vocab", "merges", "added_tokens", "special_tokens", "tekken")
    if suffix in (".model", ".tiktoken") or (
        suffix in (".json", ".txt") and name.startswith(tokenizers)
    ):
        return "tokenizer"
    return name if suffix == ".json" else None


def _model_digests(folder: Path, files: FileDigests) -> dict[str, str]:
    aspects: dict[str, dict[str, str]] = {}
    for path in _model_files(folder):
        place, aspect = str(path.relative_to(folder)), aspect_of(path)
        assert aspect
        if path.name == "tokenizer_config.json":
            template, rest = _without_template(path)
            aspects.setdefault("tokenizer", {})[place] = rest
            if template is not None:
                aspects.setdefault("chat template", {})[place] = template
        else:
            aspects.setdefault(aspect, {})[place] = files.of(path)
    return {aspect: joined(digests) for aspect, digests in aspects.items()}


def _without_template(path: Path) -> tuple[str | None, str]:
    """Digests of the chat template in a tokenizer's configuration, if any, and of the rest."""
    text = path.read_text(encoding="utf-8")
    try:
        content = json.loads(text)
        template = content.pop("chat_template", None)
    except (ValueError, AttributeError):  # transformers refuses an unreadable file on loading
        return None, hashlib.sha256(text.encode()).hexdigest()
    rest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return (None if template is None else joined({"template": json.dumps(template)})), rest
