"""Alignment samples from a `datasets` dataset: random access or a stream, local or on the hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyarrow import ListScalar
from pyarrow.types import is_struct

from mordal_optuna.alignment.samples import sample_from_messages
from mordal_optuna.errors import DataError
from mordal_optuna.files.digests import FileDigests, cache_folder, file_states, files_below, joined
from mordal_optuna.processes.outages import described

if TYPE_CHECKING:
    from collections.abc import Iterator

    from datasets import Dataset, IterableDataset
    from pyarrow import Array

    from mordal_optuna.alignment.samples import Sample
    from mordal_optuna.config import DatasetSettings
    from mordal_optuna.models.images import Picture


class Table:
    """A dataset with random access: Parquet, Arrow or JSON, local or from the hub."""

    random_access = True

    def __init__(self, dataset: Dataset, settings: DatasetSettings) -> None:
        """Read a dataset.

        Args:
            dataset: dataset with the columns that the settings name.
            settings: path and names of the columns.

        Raises:
            DataError: if the dataset lacks a column.
        """
        self.name = settings.path
        self._columns = settings
        self._rows = _encoded_images(dataset, settings)
        self._texts = self._rows.select_columns([settings.messages])
        # Rows as Arrow has them, whose images can be counted without reading them.
        self._images = None
        if settings.images:
            self._images = self._rows.select_columns([settings.images]).with_format("arrow")
        # Either all rows name image files, or none does.
        first = self.pictures(0) if len(self._rows) else ()
        self._names_files = any(isinstance(picture, Path) for picture in first)
        self._state = _state(self._rows, settings)

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._rows)

    def sample(self, index: int) -> Sample:
        """The conversation of a row."""
        messages = self._texts[index][self._columns.messages]
        return sample_from_messages(str(index), messages, lambda: self._count(index))

    def pictures(self, index: int) -> tuple[Picture, ...]:
        """The images of a row."""
        return _row_pictures(self._rows[index], self._columns)

    def keys(self, index: int) -> tuple[str, ...] | None:
        """State of the dataset's files with the row, or that of the image files it names.

        None if the dataset has no files, or the row both holds images and names files.
        """
        images = self._stored(index)
        if images is None or not len(images):
            return ()
        held = is_struct(images.type) and images.type.get_field_index("bytes") >= 0
        if held and not images.field("bytes").null_count:
            state = self._state
            return tuple(f"{state}:{n}:{index}" for n in range(len(images))) if state else None
        paths = [picture for picture in self.pictures(index) if isinstance(picture, Path)]
        return tuple(map(file_key, paths)) if len(paths) == len(images) else None

    def image_files(self, index: int) -> tuple[Path, ...]:
        """Image files that a row names; empty if rows hold the images themselves."""
        pictures = self.pictures(index) if self._names_files else ()
        return tuple(picture for picture in pictures if isinstance(picture, Path))

    def _stored(self, index: int) -> Array | None:
        """A row's images as Arrow holds them, not copied; None for none."""
        if self._images is None:
            return None
        column = self._images[index].column(0)
        value = column[0]
        if not value.is_valid:
            return None
        if isinstance(value, ListScalar):
            return value.values
        return next(chunk for chunk in column.chunks if len(chunk))

    def _count(self, index: int) -> int:
        images = self._stored(index)
        return 0 if images is None else len(images)

    def files(self) -> list[Path]:
        """Files of a local dataset."""
        return files_below(Path(self.name))

    def version(self) -> str:
        """Empty: the samples themselves are read and digested."""
        return ""


class Stream:
    """A dataset that is read sequentially: sample i is row i."""

    random_access = False

    def __init__(
        self, dataset: IterableDataset, settings: DatasetSettings, size: int, commit: str | None
    ) -> None:
        """Read a stream.

        Args:
            dataset: streamed dataset with the columns that the settings name.
            settings: path and names of the columns.
            size: number of rows that are used, from the first.
            commit: commit on the hub; None for a local dataset.

        Raises:
            DataError: if the dataset lacks a column.
        """
        self.name = settings.path
        self._commit = commit
        self._columns = settings
        self._size = size
        rows = _encoded_images(dataset, settings)
        # Conversations are read ahead of images, so each has its own position in the stream.
        self._texts = _Cursor(rows.select_columns([settings.messages]), self.name)
        self._rows = _Cursor(rows, self.name)

    def __len__(self) -> int:
        """Number of rows that are used."""
        return self._size

    def sample(self, index: int) -> Sample:
        """The conversation of a row."""
        messages = self._texts.row(index)[self._columns.messages]
        return sample_from_messages(str(index), messages, lambda: len(self.pictures(index)))

    def pictures(self, index: int) -> tuple[Picture, ...]:
        """The images of a row."""
        return _row_pictures(self._rows.row(index), self._columns)

    def image_files(self, index: int) -> tuple[Path, ...]:  # noqa: ARG002
        """Empty: image files are not known before the stream is read."""
        return ()

    def keys(self, index: int) -> None:  # noqa: ARG002
        """None: images are not known before the stream is read."""

    def files(self) -> list[Path]:
        """Files of a local dataset; empty for one on the hub."""
        return files_below(Path(self.name)) if self._commit is None else []

    def version(self) -> str:
        """Digest of the content (files or commit) and of the settings that shape samples."""
        digests = FileDigests()
        files = {str(n): digests.of(path) for n, path in enumerate(self.files())}
        place = {"dataset": self.name, "commit": self._commit} if self._commit else files
        columns = self._columns.model_dump(mode="json", exclude={"path", "revision"})
        return joined({"content": joined(place), "read": json.dumps(columns, sort_keys=True)})


class _Cursor:
    """A position in a stream; reading an earlier row starts the stream again."""

    def __init__(self, dataset: IterableDataset, name: str) -> None:
        self._dataset = dataset
        self._name = name
        self._next = 0
        self._iterator: Iterator[Any] = iter(())
        self._last: tuple[int, Any] | None = None

    def row(self, index: int) -> Any:
        if self._last and self._last[0] == index:
            return self._last[1]
        if index < self._next or self._last is None:
            self._iterator, self._next = iter(self._dataset.skip(index)), index
        while True:
            row = next(self._iterator, None)
            if row is None:
                raise DataError(self._name, f"ends before row {index}, which was asked for")
            self._next += 1
            if self._next > index:
                self._last = (index, row)
                return row


def load(settings: DatasetSettings) -> Any:
    """Load a dataset: a `Dataset`, or an `IterableDataset` if the settings ask for a stream.

    Args:
        settings: path or hub id, split and revision.

    Raises:
        DataError: if it cannot be loaded.
    """
    from datasets import load_dataset, load_from_disk
    from datasets.exceptions import DatasetsError
    from datasets.utils import logging

    told = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)  # it would tell what it raises as well
    try:
        if (Path(settings.path) / "state.json").is_file():
            dataset = load_from_disk(settings.path)
            return dataset.to_iterable_dataset() if settings.streaming else dataset
        folder = Path(settings.path)
        if folder.is_file():
            kind = {".parquet": "parquet", ".json": "json", ".jsonl": "json"}.get(folder.suffix)
            if kind is None:
                raise DataError(
                    settings.path, f"ends in {folder.suffix!r}; .parquet, .json, .jsonl are read"
                )
            return load_dataset(
                kind, data_files=settings.path, split="train", streaming=settings.streaming
            )
        return load_dataset(
            settings.path,
            settings.name,
            split=settings.split,
            revision=settings.revision,
            streaming=settings.streaming,
            cache_dir=str(cache_folder(folder)) if folder.is_dir() else None,
        )
    except (OSError, ValueError, RuntimeError, LookupError, TypeError, DatasetsError) as error:
        inner = error.__cause__ if isinstance(error, DatasetsError) else None
        raise DataError(
            settings.path,
            f"cannot be read as a dataset ({described(inner or error)}); it must be a local "
            "folder or file, or a hub id",
        ) from error
    finally:
        logging.set_verbosity(told)


def hub_commit(settings: DatasetSettings) -> str | None:
    """Commit of a dataset on the hub; None for a local dataset.

    Args:
        settings: path or hub id, and revision.

    Raises:
        DataError: if the dataset is neither local nor on the hub.
    """
    from huggingface_hub import HfApi

    if Path(settings.path).exists():
        return None
    try:
        commit = HfApi().dataset_info(settings.path, revision=settings.revision).sha
    except (OSError, ValueError) as error:
        raise DataError(
            settings.path,
            f"cannot be found on the hub ({described(error)}); it must be a local folder or "
            "file, or a hub id",
        ) from error
    return commit or settings.revision


def _encoded_images(dataset: Any, settings: DatasetSettings) -> Any:
    """The dataset with images as encoded bytes or paths, which are decoded when needed."""
    from datasets import Image, List

    wanted = [settings.messages, *([settings.images] if settings.images else [])]
    missing = [name for name in wanted if name not in dataset.column_names]
    if missing:
        raise DataError(
            settings.path,
            f"has no column {missing[0]!r}; its columns are {', '.join(dataset.column_names)}",
        )
    dataset = dataset.select_columns(wanted)
    kind = dataset.features[settings.images] if settings.images and dataset.features else None
    if isinstance(kind, Image):
        return dataset.cast_column(settings.images, Image(decode=False))
    if isinstance(kind, List):
        return dataset.cast_column(settings.images, List(Image(decode=False)))
    return dataset


def file_key(path: Path) -> str:
    """Name under which an image file's digest is kept: its path, size and modification time.

    Args:
        path: path of the file.

    Raises:
        FileNotFoundError: if it is missing.
    """
    state = path.stat()
    return f"{path.absolute()}:{state.st_size}:{state.st_mtime_ns}"


def _state(dataset: Dataset, settings: DatasetSettings) -> str | None:
    """Digest of the states of the Arrow files that hold the rows; None if memory holds them."""
    files = [Path(file["filename"]) for file in dataset.cache_files]
    if not files:
        return None
    # The settings tell which rows of the files these are: a split may be a part of one.
    read = {"read": json.dumps(settings.model_dump(mode="json"), sort_keys=True)}
    return joined({**read, "files": json.dumps(file_states(files), sort_keys=True)})


def _row_pictures(row: Any, columns: DatasetSettings) -> tuple[Picture, ...]:
    if columns.images is None or row[columns.images] is None:
        return ()
    value = row[columns.images]
    pictures: list[Picture] = []
    for image in value if isinstance(value, list) else [value]:
        content = image.get("bytes") if isinstance(image, dict) else None
        path = image.get("path") if isinstance(image, dict) else image
        pictures.append(content if content is not None else Path(str(path)))
    return tuple(pictures)
