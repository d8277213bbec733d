"""The alignment set: which samples, in one fixed order for all candidates, all of them usable."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mordal_optuna.alignment.pictures import open_image
from mordal_optuna.alignment.sources import open_source
from mordal_optuna.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mordal_optuna.alignment.pictures import Picture
    from mordal_optuna.alignment.sources import Sample, Source
    from mordal_optuna.config import AlignmentSettings
    from mordal_optuna.progress import Progress

# Broken images that an error or a note names.
_NAMED = 3
# Samples whose images are checked between two looks at the progress.
_CHUNK = 256


class AlignmentSet:
    """Samples in the order of one fixed permutation.

    The order depends on the seed and the number of records alone, so r = 1/16 is a prefix of
    r = 1/8 and all candidates see the same samples at the same step. A stream keeps its own order.
    Samples left out for broken images move the later ones up.
    """

    def __init__(
        self, source: Source, order: Sequence[int], left_out: float | None = None
    ) -> None:
        """Hold checked samples; see `read`.

        Args:
            source: where they come from.
            order: their numbers there.
            left_out: share of the checked samples whose images are broken; None where images are
                only seen while training.
        """
        self._source = source
        self._order = order
        self.left_out = left_out
        self.name = source.name
        self.digest = self._digest()

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
        """Read and check an alignment set; every image is decoded once.

        Args:
            settings: name the data and its size.
            seed: of the order.
            progress: is told of images checked and samples left out.
            checked: folder that remembers which image files were found good; None checks anew.
            threads: that decode images.

        Raises:
            DataError: if it is broken, too small, or more images are broken than allowed.
        """
        source = open_source(settings)
        if not source.random_access:
            return cls(source, range(len(source)))
        wanted = settings.samples or len(source)
        least = settings.batch_size_for(len(source))
        if wanted > len(source) or len(source) < least:
            raise _too_small(source, len(source), max(wanted, least))
        order = np.random.default_rng(seed).permutation(len(source)).tolist()
        good, broken = _usable(source, order, wanted, progress, _Checked(checked), threads)
        _judge(source, broken, settings.skip_broken_images, len(good) + len(broken), progress)
        if settings.samples is None:
            size = settings.batch_size_for(len(good))
            wanted = len(good) // size * size
        if len(good) < wanted or not wanted:
            raise _too_small(source, len(good), wanted)
        return cls(source, good[:wanted], len(broken) / (len(good) + len(broken)))

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

    def _digest(self) -> str:
        content = hashlib.sha256()
        if not self._source.random_access:
            content.update(f"stream:{self._source.name}:{len(self)}".encode())
            return content.hexdigest()
        for index in self._order:
            sample = self._source.sample(index)
            content.update(json.dumps([sample.id, sample.messages]).encode())
        return content.hexdigest()


class _Checked:
    """Remembers image files that were decoded once, by name, size and time of change."""

    def __init__(self, folder: Path | None) -> None:
        self._file = folder / "good-images.txt" if folder else None
        self._known: set[str] = set()
        if self._file and self._file.is_file():
            self._known = set(self._file.read_text(encoding="utf-8").splitlines())
        self._new: list[str] = []

    def problem(self, picture: Picture) -> str | None:
        """Why an image cannot be used; None where it can."""
        name = str(picture) if isinstance(picture, Path) else f"{len(picture)} bytes"
        try:
            key = self._key(picture)
            if key is None or key not in self._known:
                open_image(picture)
                if key:
                    self._new.append(key)
        except FileNotFoundError:
            return f"{name} (missing)"
        except (OSError, DataError) as error:
            return f"{name} ({error.__cause__ or error})"
        return None

    def write(self) -> None:
        if self._file and self._new:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("a", encoding="utf-8") as file:
                file.writelines(f"{key}\n" for key in self._new)
        self._new = []

    def _key(self, picture: Picture) -> str | None:
        if not isinstance(picture, Path):
            return None
        found = picture.stat()
        text = f"{picture.absolute()}:{found.st_size}:{found.st_mtime_ns}"
        return hashlib.sha256(text.encode()).hexdigest()[:32]


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
        found = (checked.problem(picture) for picture in source.pictures(index))
        return next((text for text in found if text), None)

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
