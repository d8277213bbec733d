"""The alignment set: which samples, in one fixed order for all candidates, all of them usable."""

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

    from mordal_optuna.alignment.sources import Sample, Source
    from mordal_optuna.config import AlignmentSettings
    from mordal_optuna.models.images import Picture
    from mordal_optuna.progress import Progress

# Broken images that an error or a note names.
_NAMED = 3
# Samples whose images are checked between two looks at the progress.
_CHUNK = 256


class AlignmentSet:
    """Samples in the order of one fixed permutation.

    Attributes:
        name: of the source.
        digests: SHA-256 of the `images` and, under the source's last name, of the conversations.
        digest: SHA-256 of both, wherever they are.

    The order depends on the seed and the number of records alone, so r = 1/16 is a prefix of
    r = 1/8 and all candidates see the same samples at the same step. A stream keeps its own order.
    Samples left out for broken images move the later ones up.
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
            source: where they come from.
            order: their numbers there.
            images: digest of their images.
            left_out: share of the checked samples whose images are broken; None where images are
                only seen while training.
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

        An image file that keeps its name, its size and its time of change is taken for the one
        that was digested. Images of a stream are not looked at: a local stream counts by its
        files' content, one on the hub by its commit.

        Args:
            settings: name the data and its size.
            seed: of the order.
            progress: is told of images checked and samples left out.
            checked: folder that remembers which image files were found good, and their digests;
                None checks anew.
            threads: that decode images.

        Raises:
            DataError: if it is broken, too small, or more images are broken than allowed.
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
        good, broken = _usable(source, order, wanted, progress, _Checked(checked, images), threads)
        _judge(source, broken, settings.skip_broken_images, len(good) + len(broken), progress)
        if settings.samples is None:
            size = settings.batch_size_for(len(good))
            wanted = len(good) // size * size
        if len(good) < wanted or not wanted:
            raise _too_small(source, len(good), wanted)
        content = hashlib.sha256("".join(images[n] for n in good[:wanted]).encode())
        left_out = len(broken) / (len(good) + len(broken))
        return cls(source, good[:wanted], content.hexdigest(), left_out)

    def __len__(self) -> int:
        """D, the size of one full alignment."""
        return len(self._order)

    @property
    def random_access(self) -> bool:
        """Whether samples can be had in any order at no cost."""
        return self._source.random_access

    def sample(self, index: int) -> Sample:
        """The conversation at a position of the fixed order.

        Raises:
            DataError: if it is none.
        """
        return self._source.sample(self._order[index])

    def pictures(self, index: int) -> tuple[Picture, ...]:
        """Its images."""
        return self._source.pictures(self._order[index])

    def unchanged(self, samples: int) -> bool:
        """Whether its files and the first samples' images have the sizes and times they had.

        Takes microseconds an image.

        Args:
            samples: of the rung that needs them.
        """
        return file_states(self._source.files()) == self._files and all(
            self._picture_state(n) == self._pictures[n] for n in range(min(samples, len(self)))
        )

    def _picture_state(self, index: int) -> int:
        """Sizes and times of a sample's image files, as one number; 0 where it has none."""
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


class _Checked:
    """Digests of samples' images, each decoded once.

    Image files are remembered by name, size and time of change.
    """

    def __init__(self, folder: Path | None, found: dict[int, str]) -> None:
        """Remember what a folder tells.

        Args:
            folder: with a list of images that were found good; None remembers nothing.
            found: gets the digests of each sample's images, by the sample's number.
        """
        self._file = folder / "good-images.txt" if folder else None
        self._known: dict[str, str] = {}
        if self._file and self._file.is_file():
            lines = self._file.read_text(encoding="utf-8").splitlines()
            # A line without a digest is of an older version: that image is read once more.
            self._known = dict(line.split(" ", 1) for line in lines if " " in line)
        self._new: list[str] = []
        self._found = found

    def problem(self, index: int, pictures: Sequence[Picture]) -> str | None:
        """Why a sample's images cannot be used; None where they can."""
        digests = []
        for picture in pictures:
            name = str(picture) if isinstance(picture, Path) else f"{len(picture)} bytes"
            try:
                digests.append(self._digest(picture))
            except FileNotFoundError:
                return f"{name} (missing)"
            except (OSError, DataError) as error:
                return f"{name} ({error.__cause__ or error})"
        self._found[index] = ":".join(["", *digests])
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
        found = picture.stat()
        text = f"{picture.absolute()}:{found.st_size}:{found.st_mtime_ns}"
        key = hashlib.sha256(text.encode()).hexdigest()[:32]
        known = self._known.get(key)
        if known is None:
            content = picture.read_bytes()
            open_image(content)
            known = hashlib.sha256(content).hexdigest()
            self._known[key] = known
            self._new.append(f"{key} {known}")
        return known


def _usable(
    source: Source,
    order: list[int],
    wanted: int,
    progress: Progress,
    checked: _Checked,
    threads: int,
) -> tuple[list[int], dict[int, str]]:
    """Numbers of the first `wanted` samples whose images all decode, and what the others lack."""
    good: list[int] = []
    broken: dict[int, str] = {}

    def problem(index: int) -> str | None:
        return checked.problem(index, source.pictures(index))

    with (
        ThreadPoolExecutor(threads) as pool,
        progress.track("check images", wanted) as advance,
    ):
        while len(good) < wanted and len(good) + len(broken) < len(order):
            start = len(good) + len(broken)
            chunk = order[start : start + min(_CHUNK, wanted - len(good))]
            for index, text in zip(chunk, pool.map(problem, chunk), strict=True):
                if text is None:
                    good.append(index)
                else:
                    broken[index] = text
            checked.write()
            advance(len(chunk))
    return good, broken


def _judge(
    source: Source, broken: dict[int, str], allowed: float, seen: int, progress: Progress
) -> None:
    if not broken:
        return
    named = "; ".join(list(broken.values())[:_NAMED])
    if len(broken) > allowed * seen:
        raise DataError(
            source.name,
            f"{len(broken)} of {seen} samples have images that are missing or cannot be decoded, "
            f"such as {named}; skip_broken_images allows {100 * allowed:g} %",
        )
    progress.note(f"left out {len(broken)} of {seen} samples, whose images are broken: {named}")


def _too_small(source: Source, found: int, wanted: int) -> DataError:
    return DataError(source.name, f"holds {found} samples; a full alignment needs {wanted}")
