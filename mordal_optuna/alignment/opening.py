"""The first look at an alignment set: which samples can be used, and digests of their content.

Each record is read once: it is checked, and its text goes into the digest of the conversations.
An image is decoded once, whichever samples show it; its digest is kept under a name that changes
with it, so that a later start does not read it.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from mordal_optuna.alignment.forked import in_processes
from mordal_optuna.errors import DataError
from mordal_optuna.files.digests import file_states
from mordal_optuna.models.images import open_image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mordal_optuna.alignment.sources import Source
    from mordal_optuna.models.images import Picture
    from mordal_optuna.progress import Progress

# Number of samples whose images are checked between two progress updates.
_CHUNK = 256
# Characters of an image's name that an error shows.
_SHOWN = 200


class TextDigest:
    """SHA-256 of texts one after another, of which the last few may be left out at the end."""

    def __init__(self, held: int) -> None:
        """Start with no texts.

        Args:
            held: largest number of texts that are left out.
        """
        self._content = hashlib.sha256()
        self._held = held
        self._last: deque[bytes] = deque()

    def add(self, text: bytes) -> None:
        """Add a text.

        Args:
            text: the text.
        """
        self._last.append(text)
        if len(self._last) > self._held:
            self._content.update(self._last.popleft())

    def without(self, last: int) -> str:
        """Digest of all texts but the last ones, 64 hexadecimal digits.

        Args:
            last: number of texts to leave out, at most `held`.
        """
        content = self._content.copy()
        for text in list(self._last)[: len(self._last) - last]:
            content.update(text)
        return content.hexdigest()


@dataclass
class Found:
    """What the first look found.

    Attributes:
        good: numbers of the samples that can be used, in order.
        states: hash of sizes and times of the image files of each of them; 0 for none.
        conversations: digest of their conversations.
        images: digest of the digests of their images.
        broken: problems of other samples' images, by the numbers of the samples.
        unusable: problems of other samples' records, by the numbers of the samples.
    """

    conversations: TextDigest
    images: TextDigest
    good: array[int] = field(default_factory=lambda: array("q"))
    states: array[int] = field(default_factory=lambda: array("q"))
    broken: dict[int, str] = field(default_factory=dict)
    unusable: dict[int, str] = field(default_factory=dict)

    @property
    def seen(self) -> int:
        """Number of samples that were looked at."""
        return len(self.good) + len(self.broken) + len(self.unusable)


class CheckedImages:
    """Digests of images that can be decoded, by the names under which `Source.keys` knows them."""

    def __init__(self, folder: Path | None) -> None:
        """Read the list of images that were checked before.

        Args:
            folder: folder of the list; None starts with an empty list.
        """
        self._file = folder / "good-images.txt" if folder else None
        self._digests: dict[str, str] = {}
        if self._file and self._file.is_file():
            lines = self._file.read_text(encoding="utf-8").splitlines()
            # An older version wrote lines without a digest: such an image is read once more.
            self._digests = dict(line.split(" ", 1) for line in lines if " " in line)
        self._decoded = set(self._digests.values())
        self._new: list[str] = []

    def known(self, source: Source, index: int) -> str | None:
        """Digests of a sample's images as one text, if all are known; reads no image.

        Args:
            source: source of the sample.
            index: number of the sample.
        """
        try:
            keys = source.keys(index)
        except (OSError, ValueError):
            return None  # `check` names the image
        if keys is None:
            return None
        digests = [self._digests.get(_short(key)) for key in keys]
        return None if None in digests else _text(digests)

    def check(self, source: Source, index: int) -> tuple[str, str | None]:
        """Decode and digest a sample's images; may run in any thread.

        Args:
            source: source of the sample.
            index: number of the sample.

        Returns:
            Digests of the images as one text, and why they cannot be used; None if they can.
        """
        digests = []
        for picture in source.pictures(index):
            name = str(picture) if isinstance(picture, Path) else f"{len(picture)} bytes"
            try:
                digests.append(self._checked(picture))
            except FileNotFoundError:
                return "", f"{name} (missing)"
            except (OSError, DataError) as error:
                reason = getattr(error, "strerror", None) or error.__cause__ or error
                return "", f"{name[:_SHOWN]} ({reason})"
            except ValueError as error:  # a name that no file can have
                return "", f"{name[:_SHOWN]!r} ({error})"
        keys = source.keys(index)
        for key, digest in zip(keys or (), digests, strict=bool(keys)):
            short = _short(key)
            if short not in self._digests:
                self._digests[short] = digest
                self._new.append(f"{short} {digest}")
        return _text(digests), None

    def write(self) -> None:
        """Append the images that were checked since the last call to the list."""
        if self._file and self._new:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("a", encoding="utf-8") as file:
                file.writelines(f"{line}\n" for line in self._new)
        self._new = []

    def _checked(self, picture: Picture) -> str:
        content = picture.read_bytes() if isinstance(picture, Path) else picture
        digest = hashlib.sha256(content).hexdigest()
        if digest not in self._decoded:
            open_image(content)
            self._decoded.add(digest)
        return digest


def look(
    source: Source,
    order: Sequence[int],
    wanted: int,
    *,
    held: int,
    checked: CheckedImages,
    threads: int,
    progress: Progress,
) -> Found:
    """Find the first samples in an order that can be used.

    Args:
        source: source with random access.
        order: numbers of the samples.
        wanted: number of usable samples to find.
        held: number of samples from the end that may be left out of the digests.
        checked: images that were checked before.
        threads: number of threads that decode images, and of processes that read records.
        progress: receives progress updates.
    """
    found = Found(TextDigest(held), TextDigest(held))
    chunks = [order[start : start + _CHUNK] for start in range(0, len(order), _CHUNK)]

    def read(chunk: Sequence[int]) -> list[_Read]:
        return [_read(source, index, checked) for index in chunk]

    with (
        # Processes end with the last result, or when it is clear that no other one is needed.
        closing(in_processes(read, chunks[: _needed(wanted, len(order))], threads)) as first,
        ThreadPoolExecutor(threads) as pool,
        progress.track("check images", wanted) as advance,
    ):
        results = chain(first, map(read, chunks[_needed(wanted, len(order)) :]))
        for chunk, samples in zip(chunks, results, strict=False):
            before = found.seen
            _add(source, chunk, samples, found, wanted, checked, pool)
            checked.write()
            advance(found.seen - before)
            if len(found.good) == wanted:
                break
    return found


def picture_state(source: Source, index: int) -> int:
    """Hash of sizes and times of a sample's image files; 0 if it has none.

    Args:
        source: source of the sample.
        index: number of the sample.
    """
    paths = source.image_files(index)
    return hash(tuple(file_states(paths).values())) if paths else 0


@dataclass(frozen=True)
class _Read:
    """A sample as a process has read it.

    Attributes:
        text: its conversation as JSON; empty if the record is none.
        problem: why the record is no conversation; None if it is one.
        images: digests of its images as one text; None if some are not known.
        state: state of its image files, see `picture_state`.
    """

    text: bytes
    problem: str | None
    images: str | None
    state: int


def _read(source: Source, index: int, checked: CheckedImages) -> _Read:
    """Read a sample and look up its images."""
    try:
        sample = source.sample(index)
    except DataError as error:
        return _Read(b"", str(error), "", 0)
    text = json.dumps([sample.id, sample.messages]).encode()
    return _Read(text, None, checked.known(source, index), picture_state(source, index))


def _needed(wanted: int, size: int) -> int:
    """Number of chunks that are read in any case."""
    return -(-min(wanted, size) // _CHUNK)


def _add(
    source: Source,
    chunk: Sequence[int],
    samples: Sequence[_Read],
    found: Found,
    wanted: int,
    checked: CheckedImages,
    pool: ThreadPoolExecutor,
) -> None:
    """Add samples to what was found, until there are as many as wanted."""
    known = [
        # Another sample that was read meanwhile may show the same images.
        checked.known(source, index) if sample.images is None else sample.images
        for index, sample in zip(chunk, samples, strict=True)
    ]
    waiting = {
        index: pool.submit(checked.check, source, index)
        for index, images in zip(chunk, known, strict=True)
        if images is None
    }
    for index, sample, images in zip(chunk, samples, known, strict=True):
        if len(found.good) == wanted:
            break
        if sample.problem is not None:
            found.unusable[index] = sample.problem
            continue
        digests, problem = (images, None) if images is not None else waiting[index].result()
        if problem is not None:
            found.broken[index] = problem
            continue
        found.conversations.add(sample.text)
        found.images.add(digests.encode())
        found.good.append(index)
        found.states.append(sample.state)


def _short(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:32]


def _text(digests: Sequence[str | None]) -> str:
    return ":".join(["", *map(str, digests)])
