"""Sources of alignment samples: LLaVA's JSON with an image folder, or a `datasets` dataset.

A source numbers its samples in the order in which they are stored. `data` decides which of them
are used, and in which order.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from mordal_optuna.alignment.records import Records
from mordal_optuna.alignment.samples import (
    Message,
    Sample,
    checked,
    split_at_images,
    text_part,
)
from mordal_optuna.alignment.tables import Stream, Table, file_key, hub_commit, load
from mordal_optuna.errors import DataError

if TYPE_CHECKING:
    from mordal_optuna.config import AlignmentSettings
    from mordal_optuna.models.images import Picture

_ROLES = {"human": "user", "gpt": "assistant"}


class Source(Protocol):
    """Numbered samples with their images.

    Attributes:
        name: path or hub id.
        random_access: whether samples can be read in any order at equal cost.
    """

    name: str
    random_access: bool

    def __len__(self) -> int:
        """Number of samples."""
        ...

    def sample(self, index: int) -> Sample:
        """The conversation of a sample.

        Args:
            index: number of the sample, from 0.

        Raises:
            DataError: if the record is not a valid conversation.
        """
        ...

    def pictures(self, index: int) -> tuple[Picture, ...]:
        """The images of a sample, in the order in which the turns show them.

        Args:
            index: number of the sample, from 0.
        """
        ...

    def image_files(self, index: int) -> tuple[Path, ...]:
        """The images of a sample that are separate local files.

        Args:
            index: number of the sample, from 0.
        """
        ...

    def keys(self, index: int) -> tuple[str, ...] | None:
        """Names under which the digests of a sample's images are kept, one for each image.

        A name changes whenever the image may have changed. Asking for it reads no image.

        Args:
            index: number of the sample, from 0.

        Returns:
            The names; None if only the images themselves tell.

        Raises:
            FileNotFoundError: if an image file is missing.
        """
        ...

    def files(self) -> list[Path]:
        """Local files that the samples are read from; empty for a dataset on the hub."""
        ...

    def version(self) -> str:
        """Digest of a stream's content; empty for other sources, whose samples are digested."""
        ...


def open_source(settings: AlignmentSettings) -> Source:
    """Open the alignment data that a study file names.

    Args:
        settings: alignment recipe, which names a JSON file and an image folder, or a dataset.

    Raises:
        DataError: if the data is missing or cannot be read.
    """
    if settings.dataset is None:
        assert settings.conversations
        assert settings.images
        return LlavaFile(settings.conversations, settings.images)
    if settings.dataset.streaming:
        assert settings.samples
        commit = hub_commit(settings.dataset)
        pinned = settings.dataset.model_copy(update={"revision": commit})
        return Stream(load(pinned), settings.dataset, settings.samples, commit)
    return Table(load(settings.dataset), settings.dataset)


class LlavaFile:
    """LLaVA's conversation format: a JSON list of records beside a folder of images."""

    random_access = True

    def __init__(self, conversations: Path, images: Path) -> None:
        """Read a file.

        Args:
            conversations: JSON file: a list of records with `id`, `image` and `conversations`.
            images: folder that the names of images are relative to.

        Raises:
            DataError: if the file is broken.
        """
        self.name = str(conversations)
        self._images = images
        self._records = Records(conversations)

    def __len__(self) -> int:
        """Number of records."""
        return len(self._records)

    def sample(self, index: int) -> Sample:
        """The conversation of a record; a single image is put first, as LLaVA does."""
        record = self._records.read(index)
        several = len(record.images) > 1
        messages = []
        for number, turn in enumerate(record.conversations):
            expected = ("human", "gpt")[number % 2]
            if turn.speaker != expected:
                raise DataError(
                    record.id,
                    f"turn {number} is by {turn.speaker!r}; turns must alternate from human",
                )
            content = split_at_images(turn.value) if several else [text_part(turn.value)]
            messages.append(Message(role=_ROLES[turn.speaker], content=content))
        if len(record.images) == 1:
            messages[0]["content"].insert(0, {"type": "image"})
        return checked(Sample(record.id, tuple(messages)), len(record.images))

    def pictures(self, index: int) -> tuple[Picture, ...]:
        """Paths of a record's images."""
        return self.image_files(index)

    def image_files(self, index: int) -> tuple[Path, ...]:
        """Paths of a record's images."""
        return tuple(self._images / name for name in self._records.read(index).images)

    def keys(self, index: int) -> tuple[str, ...]:
        """Paths, sizes and modification times of a record's images."""
        return tuple(map(file_key, self.image_files(index)))

    def files(self) -> list[Path]:
        """The JSON file."""
        return [Path(self.name)]

    def version(self) -> str:
        """Empty: the samples themselves are read and digested."""
        return ""
