"""Digests of files and of local model folders; loads no torch.

What a score is stored under holds digests of content, never places or times: a model that was
copied elsewhere is the same one. Sizes and times only say which files need not be read again.
"""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# Larger safetensors files are told apart by blocks of every tensor.
_WHOLE_BYTES = 1 << 28
_BLOCK_BYTES = 1 << 12
# Size, time of change of the content and of the inode, by path.
States = dict[str, tuple[int, int, int]]


class FileDigests:
    """SHA-256 of files' content; a file is read again only where its size or times differ.

    Of a safetensors file above 256 MiB the header is read, and the first, middle and last 4 KiB of
    every tensor: a model that was trained further differs there. A change inside one large tensor
    that leaves these blocks as they are is not noticed.
    """

    def __init__(self) -> None:
        """Know of no file yet."""
        self._known: dict[str, tuple[tuple[int, int, int], str]] = {}

    def of(self, path: Path) -> str:
        """Digest of a file, 64 hexadecimal digits.

        Raises:
            OSError: if it cannot be read.
        """
        state = _state(path)
        known = self._known.get(str(path))
        if known is None or known[0] != state:
            sampled = path.suffix == ".safetensors" and state[0] > _WHOLE_BYTES
            known = (state, _sampled(path) if sampled else _whole(path))
            self._known[str(path)] = known
        return known[1]


class ModelFolder:
    """Digests of a local model, by what its files are for.

    Attributes:
        digests: by aspect: weights, configuration, tokenizer, chat template, image processor,
            code; a JSON file of another use is an aspect by its name.
    """

    def __init__(self, folder: Path, files: FileDigests) -> None:
        """Read a folder.

        Args:
            folder: with `config.json` and safetensors weights.
            files: gives the digests of its files.

        Raises:
            OSError: if a file cannot be read.
        """
        self._folder = folder
        self._seen = file_states(_model_files(folder))
        self.digests = _model_digests(folder, files)

    def unchanged(self, samples: int) -> bool:  # noqa: ARG002 - models do not grow with samples
        """Whether its files have the sizes and times they had; takes microseconds a file."""
        return file_states(_model_files(self._folder)) == self._seen


def file_states(paths: Iterable[Path]) -> States:
    """Sizes and times of files; one that is not there has none."""
    states = {}
    for path in paths:
        try:
            states[str(path)] = _state(path)
        except FileNotFoundError:
            continue
    return states


def files_below(place: Path) -> list[Path]:
    """All files of a folder and its subfolders in order; a file is its own."""
    if place.is_file():
        return [place]
    return sorted(path for path in place.rglob("*") if path.is_file())


def cache_folder(data: Path) -> Path:
    """A cache of `datasets` of its own for every state of local data.

    `datasets` tells local folders apart by their last name and configuration alone: two folders
    called `scenes`, or one whose files have changed, would give the rows of the first.
    """
    from datasets.config import HF_DATASETS_CACHE

    state = hashlib.sha256(str(data.absolute()).encode())
    for path in files_below(data):
        found = path.stat()
        state.update(f"{path}:{found.st_size}:{found.st_mtime_ns}".encode())
    return Path(HF_DATASETS_CACHE) / "mordal" / state.hexdigest()[:24]


def joined(digests: Mapping[str, str | None]) -> str:
    """One digest of several with their names."""
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


def _state(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _whole(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sampled(path: Path) -> str:
    """Size, header and blocks of every tensor of a safetensors file."""
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
    """Files that transformers may read of a model; documentation and other formats are not."""
    templates = folder / "additional_chat_templates"
    found = [*folder.iterdir(), *(templates.iterdir() if templates.is_dir() else ())]
    return sorted(path for path in found if path.is_file() and _aspect(path) is not None)


def _aspect(path: Path) -> str | None:
    """What a file of a model is for; its own name where that is not known, None if not read."""
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
        place, aspect = str(path.relative_to(folder)), _aspect(path)
        assert aspect
        if path.name == "tokenizer_config.json":
            template, rest = _without_template(path)
            aspects.setdefault("tokenizer", {})[place] = rest
            if template is not None:
                aspects.setdefault("chat template", {})[place] = template
        else:
            aspects.setdefault(aspect, {})[place] = files.of(path)
    return {aspect: joined(found) for aspect, found in aspects.items()}


def _without_template(path: Path) -> tuple[str | None, str]:
    """Digests of the chat template that a tokenizer's configuration may hold, and of its rest."""
    text = path.read_text(encoding="utf-8")
    try:
        content = json.loads(text)
        template = content.pop("chat_template", None)
    except (ValueError, AttributeError):  # what transformers cannot read is refused where it loads
        return None, hashlib.sha256(text.encode()).hexdigest()
    rest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return (None if template is None else joined({"template": json.dumps(template)})), rest
