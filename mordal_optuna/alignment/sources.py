"""Where alignment samples come from: LLaVA's JSON with an image folder, or a `datasets` dataset.

A source gives samples and their pictures by number, in an order of its own; which of them are
used, and in which order, is decided in `data`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypedDict

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from mordal_optuna.errors import DataError
from mordal_optuna.files.digests import FileDigests, cache_folder, files_below, joined
from mordal_optuna.models.template import IMAGE_TOKEN
from mordal_optuna.processes.outages import described

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from datasets import Dataset, IterableDataset

    from mordal_optuna.config import AlignmentSettings, DatasetSettings
    from mordal_optuna.models.images import Picture

_ROLES = {"human": "user", "gpt": "assistant"}


class Message(TypedDict):
    """One turn, as chat templates want it."""

    role: str
    content: list[dict[str, str]]


@dataclass(frozen=True)
class Sample:
    """One conversation.

    Attributes:
        id: what the source calls it.
        messages: the turns; an image stands where it is shown. Answers last.
    """

    id: str
    messages: tuple[Message, ...]

    @property
    def images(self) -> int:
        """How many images it shows."""
        return sum(part["type"] == "image" for m in self.messages for part in m["content"])


class Source(Protocol):
    """Samples by number."""

    name: str
    # Whether samples can be had in any order at no cost.
    random_access: bool

    def __len__(self) -> int:
        """How many samples there are, or may be asked for."""
        ...

    def sample(self, index: int) -> Sample:
        """The conversation of a number.

        Raises:
            DataError: if it is none.
        """
        ...

    def pictures(self, index: int) -> tuple[Picture, ...]:
        """Its images, in the order they are shown."""
        ...

    def image_files(self, index: int) -> tuple[Path, ...]:
        """Those that are files of their own."""
        ...

    def files(self) -> list[Path]:
        """Local files the rows are read from; none where they come from the hub."""
        ...

    def version(self) -> str:
        """What tells its content from another's where its samples are not read: of a stream."""
        ...


def open_source(settings: AlignmentSettings) -> Source:
    """The alignment data a study file names.

    Raises:
        DataError: if it is missing or not in a form that can be read.
    """
    if settings.dataset is None:
        assert settings.conversations
        assert settings.images
        return LlavaFile(settings.conversations, settings.images)
    if settings.dataset.streaming:
        assert settings.samples
        commit = _commit(settings.dataset)
        pinned = settings.dataset.model_copy(update={"revision": commit})
        return Stream(_load_dataset(pinned), settings.dataset, settings.samples, commit)
    dataset = _load_dataset(settings.dataset)
    return Table(dataset, settings.dataset)


class _Turn(BaseModel):
    model_config = ConfigDict(frozen=True, populate_by_name=True)
    speaker: str = Field(alias="from", pattern="^(human|gpt)$")
    value: str


class _Record(BaseModel):
    """One entry of the file; keys that are not listed here are not needed and passed over."""

    model_config = ConfigDict(frozen=True, coerce_numbers_to_str=True)
    id: str
    image: str | tuple[str, ...] | None = None
    conversations: tuple[_Turn, ...] = Field(min_length=2)

    @property
    def images(self) -> tuple[str, ...]:
        return (self.image,) if isinstance(self.image, str) else self.image or ()


class LlavaFile:
    """LLaVA's conversation format: a JSON list of records beside a folder of images."""

    random_access = True

    def __init__(self, conversations: Path, images: Path) -> None:
        """Read a file.

        Args:
            conversations: JSON list of records with `id`, `image` and `conversations`.
            images: folder the image names are relative to.

        Raises:
            DataError: if the file is broken.
        """
        self.name = str(conversations)
        self._images = images
        self._records = _read_records(conversations)

    def __len__(self) -> int:
        """Records of the file."""
        return len(self._records)

    def sample(self, index: int) -> Sample:
        """The record of a number; a single image stands first, as LLaVA puts it."""
        record = self._records[index]
        messages = []
        for number, turn in enumerate(record.conversations):
            expected = ("human", "gpt")[number % 2]
            if turn.speaker != expected:
                raise DataError(
                    record.id,
                    f"turn {number} is by {turn.speaker!r}; turns must alternate from human",
                )
            content = _parts(turn.value) if len(record.images) > 1 else [_text(turn.value)]
            messages.append(Message(role=_ROLES[turn.speaker], content=content))
        if len(record.images) == 1:
            messages[0]["content"].insert(0, {"type": "image"})
        return _checked(Sample(record.id, tuple(messages)), len(record.images))

    def pictures(self, index: int) -> tuple[Picture, ...]:
        """Paths of its images."""
        return self.image_files(index)

    def image_files(self, index: int) -> tuple[Path, ...]:
        """All of them."""
        return tuple(self._images / name for name in self._records[index].images)

    def files(self) -> list[Path]:
        """The file."""
        return [Path(self.name)]

    def version(self) -> str:
        """Not needed: its samples are read."""
        return ""


class Table:
    """A dataset that can be read in any order: Parquet, Arrow or JSON, local or from the hub."""

    random_access = True

    def __init__(self, dataset: Dataset, settings: DatasetSettings) -> None:
        """Read a dataset.

        Args:
            dataset: with the columns that the settings name.
            settings: names them.

        Raises:
            DataError: if it lacks a column.
        """
        self.name = settings.path
        self._columns = settings
        self._rows = _encoded_images(dataset, settings)
        self._texts = self._rows.select_columns([settings.messages])
        # All rows hold their images in one way.
        first = self.pictures(0) if len(self._rows) else ()
        self._names_files = any(isinstance(picture, Path) for picture in first)

    def __len__(self) -> int:
        """Rows of the dataset."""
        return len(self._rows)

    def sample(self, index: int) -> Sample:
        """The conversation of a row."""
        messages = self._texts[index][self._columns.messages]
        return _conversation(str(index), messages, lambda: len(self.pictures(index)))

    def pictures(self, index: int) -> tuple[Picture, ...]:
        """Images of a row."""
        return _row_pictures(self._rows[index], self._columns)

    def image_files(self, index: int) -> tuple[Path, ...]:
        """Those that a row names; none where rows hold images themselves."""
        found = self.pictures(index) if self._names_files else ()
        return tuple(picture for picture in found if isinstance(picture, Path))

    def files(self) -> list[Path]:
        """Files of a local dataset."""
        return files_below(Path(self.name))

    def version(self) -> str:
        """Not needed: its samples are read."""
        return ""


class Stream:
    """A dataset that is read from its beginning on: row i of it is sample i."""

    random_access = False

    def __init__(
        self, dataset: IterableDataset, settings: DatasetSettings, size: int, commit: str | None
    ) -> None:
        """Read a stream.

        Args:
            dataset: with the columns that the settings name.
            settings: names them.
            size: how many of its rows are used.
            commit: on the hub; None for a local one.
        """
        self.name = settings.path
        self._commit = commit
        self._columns = settings
        self._size = size
        rows = _encoded_images(dataset, settings)
        # Conversations are read ahead of images, so each has a place of its own in the stream.
        self._texts = _Cursor(rows.select_columns([settings.messages]), self.name)
        self._rows = _Cursor(rows, self.name)

    def __len__(self) -> int:
        """How many of its rows are used."""
        return self._size

    def sample(self, index: int) -> Sample:
        """The conversation of a row."""
        messages = self._texts.row(index)[self._columns.messages]
        return _conversation(str(index), messages, lambda: len(self.pictures(index)))

    def pictures(self, index: int) -> tuple[Picture, ...]:
        """Images of a row."""
        return _row_pictures(self._rows.row(index), self._columns)

    def image_files(self, index: int) -> tuple[Path, ...]:  # noqa: ARG002
        """None that can be known without reading the stream."""
        return ()

    def files(self) -> list[Path]:
        """Files of a local dataset."""
        return files_below(Path(self.name)) if self._commit is None else []

    def version(self) -> str:
        """Its files' content or its commit, and what of it is read."""
        read = FileDigests()
        files = {str(n): read.of(path) for n, path in enumerate(self.files())}
        place = {"dataset": self.name, "commit": self._commit} if self._commit else files
        columns = self._columns.model_dump(mode="json", exclude={"path", "revision"})
        return joined({"content": joined(place), "read": json.dumps(columns, sort_keys=True)})


class _Cursor:
    """A place in a stream; going back starts anew."""

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


def _read_records(path: Path) -> list[_Record]:
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(str(path), f"cannot be read as JSON ({error})") from error
    try:
        return TypeAdapter(list[_Record]).validate_python(content)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise DataError(
            str(path),
            f"entry {where}: {problem['msg'].lower()}; LLaVA's format is a list of records with "
            "id, image and conversations of human and gpt turns",
        ) from error


def _load_dataset(settings: DatasetSettings) -> Any:
    from datasets import load_dataset, load_from_disk

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
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(
            settings.path,
            f"cannot be read as a dataset ({str(error).splitlines()[0]}); it must be a local "
            "folder or file, or a hub id",
        ) from error


def _commit(settings: DatasetSettings) -> str | None:
    """Commit of a dataset on the hub; None for a local one."""
    from huggingface_hub import HfApi

    if Path(settings.path).exists():
        return None
    try:
        found = HfApi().dataset_info(settings.path, revision=settings.revision).sha
    except (OSError, ValueError) as error:
        raise DataError(
            settings.path,
            f"cannot be found on the hub ({described(error)}); it must be a local folder or "
            "file, or a hub id",
        ) from error
    return found or settings.revision


def _encoded_images(dataset: Any, settings: DatasetSettings) -> Any:
    """The dataset with its images left as they are stored, to be decoded when needed."""
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


def _row_pictures(row: Any, columns: DatasetSettings) -> tuple[Picture, ...]:
    if columns.images is None or row[columns.images] is None:
        return ()
    value = row[columns.images]
    found: list[Picture] = []
    for one in value if isinstance(value, list) else [value]:
        held = one.get("bytes") if isinstance(one, dict) else None
        place = one.get("path") if isinstance(one, dict) else one
        found.append(held if held is not None else Path(str(place)))
    return tuple(found)


def _conversation(name: str, messages: Any, images: Any) -> Sample:
    """Turns of a `messages` column, whose contents are texts or lists of parts."""
    turns = []
    for message in messages:
        content = message["content"]
        parts = (
            _parts(content)
            if isinstance(content, str)
            else [{"type": "image"} if p["type"] == "image" else _text(p["text"]) for p in content]
        )
        turns.append(Message(role=message["role"], content=parts))
    sample = Sample(name, tuple(turns))
    count = images()
    if count and not sample.images and turns:
        first = next((t for t in turns if t["role"] == "user"), turns[0])
        first["content"][:0] = [{"type": "image"}] * count
    return _checked(sample, count)


def _checked(sample: Sample, images: int) -> Sample:
    """Refuse what no template can render as question and answer in turn."""
    roles = [message["role"] for message in sample.messages]
    if roles and roles[0] == "system":
        roles = roles[1:]
    if len(roles) % 2:
        raise DataError(sample.id, "ends with a question; the last turn must be an answer")
    if not roles or any(r != ("user", "assistant")[n % 2] for n, r in enumerate(roles)):
        raise DataError(
            sample.id,
            f"has turns by {', '.join(roles) or 'nobody'}; user and assistant must alternate",
        )
    if sample.images != images:
        raise DataError(
            sample.id,
            f"shows {sample.images} images in its turns and comes with {images}; the two must be "
            "equal",
        )
    return sample


def _text(value: str) -> dict[str, str]:
    return {"type": "text", "text": value.replace(IMAGE_TOKEN, "").strip()}


def _parts(value: str) -> list[dict[str, str]]:
    """A text with `<image>` in it, as texts and images in turn."""
    parts: list[dict[str, str]] = []
    pieces: Sequence[str] = value.split(IMAGE_TOKEN)
    for number, piece in enumerate(pieces):
        if number:
            parts.append({"type": "image"})
        if piece.strip() or len(pieces) == 1:
            parts.append(_text(piece))
    return parts
