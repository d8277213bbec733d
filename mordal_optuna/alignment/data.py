"""The alignment set: checked samples in a fixed order, the same for all candidates."""

from __future__ import annotations

import hashlib
from array import array
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mordal_optuna.alignment.opening import CheckedImages, look, picture_state
from mordal_optuna.alignment.sources import open_source
from mordal_optuna.errors import DataError
from mordal_optuna.files.digests import file_states, joined

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mordal_optuna.alignment.opening import Found
    from mordal_optuna.alignment.samples import Sample
    from mordal_optuna.alignment.sources import Source
    from mordal_optuna.config import AlignmentSettings
    from mordal_optuna.models.images import Picture
    from mordal_optuna.progress import Progress

# Number of broken images that an error or a note names.
_NAMED = 3
_BROKEN = "have images that are missing or cannot be decoded"


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
        states: array[int],
        *,
        conversations: str,
        images: str,
        left_out: float | None = None,
    ) -> None:
        """Hold checked samples; see `read`.

        Args:
            source: source of the samples.
            order: numbers of the samples in the source.
            states: states of the samples' image files, see `picture_state`.
            conversations: digest of the samples' conversations.
            images: digest of the samples' images.
            left_out: share of the checked samples that were left out, 0..1; None for a stream.
        """
        self._source = source
        self._order = order
        self._pictures = states
        self.left_out = left_out
        self.name = source.name
        self._files = file_states(source.files())
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
            return cls._streamed(source)
        wanted = settings.samples or len(source)
        least = settings.batch_size_for(len(source))
        if wanted > len(source) or len(source) < least:
            raise _too_small(source, len(source), max(wanted, least))
        found = look(
            source,
            array("q", np.random.default_rng(seed).permutation(len(source)).tolist()),
            wanted,
            held=settings.batch_size,
            checked=CheckedImages(checked),
            threads=threads,
            progress=progress,
        )
        seen, good = found.seen, found.good
        _report_all_left_out(source, found, settings, progress)
        if settings.samples is None:
            size = settings.batch_size_for(len(good))
            wanted = len(good) // size * size
            if 0 < wanted < len(good):
                progress.note(
                    f"{wanted:,} of {len(good):,} samples are used: a full alignment is a whole "
                    f"number of batches, here of {size}"
                )
        if len(good) < wanted or not wanted:
            raise _too_small(source, len(good), wanted)
        over = len(good) - wanted
        return cls(
            source,
            good[:wanted],
            found.states[:wanted],
            conversations=found.conversations.without(over),
            images=found.images.without(over),
            left_out=(seen - len(good)) / seen,
        )

    @classmethod
    def beginning(
        cls,
        settings: AlignmentSettings,
        *,
        seed: int,
        progress: Progress,
        steps: int,
        threads: int = 2,
    ) -> AlignmentSet:
        """The whole alignment set, of which the samples of the first steps alone are checked.

        Those are the samples that training begins with. Nothing is kept on the disk, and the
        digest is of no use, since most images are not read.

        Args:
            settings: alignment recipe, which names the data and the number of samples.
            seed: random seed of the order.
            progress: receives progress updates, and a note about samples that are left out.
            steps: number of optimiser steps, at least 1.
            threads: number of threads that decode images.

        Raises:
            DataError: as `read`, for these samples.
        """
        source = open_source(settings)
        if not source.random_access:
            return cls._streamed(source)
        size = settings.batch_size_for(len(source))
        wanted = settings.samples or len(source) // size * size
        if wanted > len(source) or not wanted:
            raise _too_small(source, len(source), max(wanted, size))
        order = array("q", np.random.default_rng(seed).permutation(len(source)).tolist())
        found = look(
            source,
            order,
            min(wanted, steps * size),
            held=0,
            checked=CheckedImages(None),
            threads=threads,
            progress=progress,
        )
        _report_all_left_out(source, found, settings, progress)
        # No sample that is left out later is known yet, so the last ones may move up.
        usable = (found.good + order[found.seen :])[:wanted]
        usable = usable[: len(usable) // size * size]
        if not usable:
            raise _too_small(source, len(found.good), size)
        states = found.states + array("q", bytes(8 * (len(usable) - len(found.states))))
        left_out = (found.seen - len(found.good)) / found.seen
        return cls(source, usable, states, conversations="", images="", left_out=left_out)

    @classmethod
    def _streamed(cls, source: Source) -> AlignmentSet:
        """Samples of a stream, which are only read while training."""
        content = hashlib.sha256(f"{source.version()}:{len(source)}".encode())
        return cls(
            source,
            range(len(source)),
            array("q", bytes(8 * len(source))),
            conversations=content.hexdigest(),
            images="",
        )

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
            picture_state(self._source, self._order[n]) == state
            for n, state in enumerate(self._pictures[:samples])
            if state
        )


def _report_all_left_out(
    source: Source, found: Found, settings: AlignmentSettings, progress: Progress
) -> None:
    """Refuse or report the samples that the first look left out."""
    for problems, kind in (
        (found.unusable, ("are no conversations", "skip_unusable", settings.skip_unusable)),
        (found.broken, (_BROKEN, "skip_broken_images", settings.skip_broken_images)),
    ):
        _report_left_out(source, problems, kind, found.seen, progress)


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
