"""The alignment set: checked samples in a fixed order, the same for all candidates."""

from __future__ import annotations

import hashlib
import json
from array import array
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mordal_optuna.alignment.sources import open_source
from mordal_optuna.errors import DataError
from mordal_optuna.files.digests import file_states, joined
from mordal_optuna.models.images import open_image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mordal_optuna.alignment.samples import Sample
    from mordal_optuna.alignment.sources import Source
    from mordal_optuna.config import AlignmentSettings
    from mordal_optuna.models.images import Picture
    from mordal_optuna.progress import Progress

# Number of broken images that an error or a note names.
_NAMED = 3
_BROKEN = "have images that are missing or cannot be decoded"
# Number of samples whose images are checked between two progress updates.
_CHUNK = 256


class AlignmentSet:
    """Samples in the order of one fixed permutation.

    The order depends only on the seed and the number of records. So the samples at r = 1/16 are a
    prefix of those at r = 1/8, and all candidates see the same samples at the same step. A stream
    keeps its own order. If a sample is left out for a broken image, or because its record is no
    conversation, the later ones move up.

    Attributes:
        name: name of the source.
        digests: SHA-256 of the `images`, and of the conversations under the source's last name.
        digest: SHA-256 of both; it does not depend on where they are stored.
        left_out: share of the checked samples that were left out, for broken images or broken
            records, 0..1; None for a stream, which is only read while training.
    """

    def __init__(
        self,
        source: Source,
        order: Sequence[int],
        images: str,
        left_out: float | None = None,
    ) -> None:
        """Hold checked samples; see `read`.

        Args:
            source: source of the samples.
            order: numbers of the samples in the source.
            images: digest of the samples' images.
            left_out: share of the checked samples that were left out, 0..1; None for a stream.
        """
        self._source = source
        self._order = order
        self.left_out = left_out
        self.name = source.name
        self._files = file_states(source.files())
        self._pictures = array("q", map(self._picture_state, range(len(order))))
        conversations = self._conversations()
        self.digest = joined({"conversations": conversations, "images": images})
        self.digests = {Path(self.name).name: conversations, "images": images}

    @classmethod
    def read(
        cls,
        settings: AlignmentSettings,
        *,
        seed: int,
        progress: Progress,
        checked: Path | None = None,
        threads: int = 2,
    ) -> AlignmentSet:
        """Read and check an alignment set; every image is decoded and digested once.

        An image file with the same name, size and modification time is not decoded again. Images
        of a stream are not checked; its digest is that of its local files' content, or of its
        commit on the hub.

        Args:
            settings: alignment recipe, which names the data and the number of samples.
            seed: random seed of the order.
            progress: receives progress updates, and a note about samples that are left out.
            checked: folder of the list of images that were checked before; None checks all.
            threads: number of threads that decode images.

        Raises:
            DataError: if the data is broken or too small, more images are broken than
                `skip_broken_images` allows, or more records than `skip_unusable` does.
        """
        source = open_source(settings)
        if not source.random_access:
            return cls(source, range(len(source)), images="")
        wanted = settings.samples or len(source)
        least = settings.batch_size_for(len(source))
        if wanted > len(source) or len(source) < least:
            raise _too_small(source, len(source), max(wanted, least))
        order = np.random.default_rng(seed).permutation(len(source)).tolist()
        images: dict[int, str] = {}
        cache = _CheckedImages(checked, images)
        good, broken, unusable = _usable(source, order, wanted, progress, cache, threads)
        seen = len(good) + len(broken) + len(unusable)
        for found, kind in (
            (unusable, ("are no conversations", "skip_unusable", settings.skip_unusable)),
            (broken, (_BROKEN, "skip_broken_images", settings.skip_broken_images)),
        ):
            _report_left_out(source, found, kind, seen, progress)
        if settings.samples is None:
            size = settings.batch_size_for(len(good))
            wanted = len(good) // size * size
        if len(good) < wanted or not wanted:
            raise _too_small(source, len(good), wanted)
        content = hashlib.sha256("".join(images[n] for n in good[:wanted]).encode())
        return cls(source, good[:wanted], content.hexdigest(), (seen - len(good)) / seen)

    def __len__(self) -> int:
        """D, the size of one full alignment."""
        return len(self._order)

    @property
    def random_access(self) -> bool:
        """Whether samples can be read in any order at equal cost."""
        return self._source.random_access

    def sample(self, index: int) -> Sample:
        """The conversation at a position.

        Args:
            index: position in the fixed order, from 0.

        Raises:
            DataError: if the record is not a valid conversation.
        """
        return self._source.sample(self._order[index])

    def pictures(self, index: int) -> tuple[Picture, ...]:
        """The images of a sample.

        Args:
            index: position in the fixed order, from 0.
        """
        return self._source.pictures(self._order[index])

    def unchanged(self, samples: int) -> bool:
        """Whether files have the sizes and modification times they had when they were read.

        Takes microseconds per image.

        Args:
            samples: number of samples from the start whose images are compared.
        """
        return file_states(self._source.files()) == self._files and all(
            self._picture_state(n) == self._pictures[n] for n in range(min(samples, len(self)))
        )

    def _picture_state(self, index: int) -> int:
        """Hash of sizes and times of a sample's image files; 0 if it has none."""
        paths = self._source.image_files(self._order[index])
        return hash(tuple(file_states(paths).values())) if paths else 0

    def _conversations(self) -> str:
        content = hashlib.sha256()
        if not self._source.random_access:
            content.update(f"{self._source.version()}:{len(self)}".encode())
            return content.hexdigest()
        for index in self._order:
            sample = self._source.sample(index)
            content.update(json.dumps([sample.id, sample.messages]).encode())
        return content.hexdigest()


class _CheckedImages:
    """Digests of samples' images, each decoded once.

    Image files are identified by name, size and modification time.
    """

    def __init__(self, folder: Path | None, by_sample: dict[int, str]) -> None:
        """Read the list of images that were checked before.

        Args:
            folder: folder of the list; None starts with an empty list.
            by_sample: dictionary that receives the digests of each checked sample's images, by the
                sample's number.
        """
        self._file = folder / "good-images.txt" if folder else None
        self._digests: dict[str, str] = {}
        if self._file and self._file.is_file():
            lines = self._file.read_text(encoding="utf-8").splitlines()
            # An older version wrote lines without a digest: such an image is read once more.
            self._digests = dict(line.split(" ", 1) for line in lines if " " in line)
        self._new: list[str] = []
        self._by_sample = by_sample

    def problem(self, index: int, pictures: Sequence[Picture]) -> str | None:
        """Why a sample's images cannot be used; None if they can."""
        digests = []
        for picture in pictures:
            name = str(picture) if isinstance(picture, Path) else f"{len(picture)} bytes"
            try:
                digests.append(self._digest(picture))
            except FileNotFoundError:
                return f"{name} (missing)"
            except (OSError, DataError) as error:
                return f"{name} ({error.__cause__ or error})"
        self._by_sample[index] = ":".join(["", *digests])
        return None

    def write(self) -> None:
        if self._file and self._new:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("a", encoding="utf-8") as file:
                file.writelines(f"{line}\n" for line in self._new)
        self._new = []

    def _digest(self, picture: Picture) -> str:
        if not isinstance(picture, Path):
            open_image(picture)
            return hashlib.sha256(picture).hexdigest()
        state = picture.stat()
        text = f"{picture.absolute()}:{state.st_size}:{state.st_mtime_ns}"
        key = hashlib.sha256(text.encode()).hexdigest()[:32]
        digest = self._digests.get(key)
        if digest is None:
            content = picture.read_bytes()
            open_image(content)
            digest = hashlib.sha256(content).hexdigest()
            self._digests[key] = digest
            self._new.append(f"{key} {digest}")
        return digest


def _usable(
    source: Source,
    order: list[int],
    wanted: int,
    progress: Progress,
    checked: _CheckedImages,
    threads: int,
) -> tuple[list[int], dict[int, str], dict[int, str]]:
    """Numbers of the first `wanted` samples that can be used, and problems of the others.

    The problems are those of images, then those of records.
    """
    good: list[int] = []
    broken: dict[int, str] = {}
    unusable: dict[int, str] = {}

    def problem(index: int) -> str | None:
        return checked.problem(index, source.pictures(index))

    with (
        ThreadPoolExecutor(threads) as pool,
        progress.track("check images", wanted) as advance,
    ):
        start = 0
        while len(good) < wanted and start < len(order):
            chunk = order[start : start + min(_CHUNK, wanted - len(good))]
            start += len(chunk)
            for index, text in zip(chunk, pool.map(problem, chunk), strict=True):
                record = _record_problem(source, index)
                if record is not None:
                    unusable[index] = record
                elif text is not None:
                    broken[index] = text
                else:
                    good.append(index)
            checked.write()
            advance(len(chunk))
    return good, broken, unusable


def _record_problem(source: Source, index: int) -> str | None:
    """Why a record is no conversation; None if it is one."""
    try:
        source.sample(index)
    except DataError as error:
        return str(error)
    return None


def _report_left_out(
    source: Source,
    problems: dict[int, str],
    kind: tuple[str, str, float],
    seen: int,
    progress: Progress,
) -> None:
    """Refuse or report samples that cannot be used, by what they are and by the option's name."""
    if not problems:
        return
    what, option, allowed = kind
    named = "; ".join(list(problems.values())[:_NAMED])
    if len(problems) > allowed * seen:
        raise DataError(
            source.name,
            f"{len(problems)} of {seen} samples {what}, such as {named}; {option} allows "
            f"{100 * allowed:g} %",
        )
    progress.note(f"left out {len(problems)} of {seen} samples, which {what}: {named}")


def _too_small(source: Source, size: int, wanted: int) -> DataError:
    return DataError(source.name, f"holds {size} samples; a full alignment needs {wanted}")
