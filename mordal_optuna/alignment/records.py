"""Records of LLaVA's conversation file, read one at a time where they are in the file.

The file is one JSON list. It is scanned once in pieces of a few megabytes, and the place of each
record is kept, 8 bytes a record. A record is read and parsed when it is asked for. So its Python
objects do not stay in memory, and the file's pages are shared by all processes of a machine.
"""

from __future__ import annotations

import codecs
import json
import os
import reprlib
import weakref
from array import array
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from mordal_optuna.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Bytes that are read at once, and number of records whose objects are kept for the next reader.
_PIECE = 1 << 22
_KEPT = 512
_DECODER = json.JSONDecoder()
_SPACE = " \t\n\r"
_FORMAT = (
    "LLaVA's format is one JSON list of records with id, image and conversations of human and gpt "
    "turns"
)


class Turn(BaseModel):
    """One turn of a record."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)
    speaker: str = Field(alias="from", pattern="^(human|gpt)$")
    value: str


class Record(BaseModel):
    """One entry of the file; other keys are ignored."""

    model_config = ConfigDict(frozen=True, coerce_numbers_to_str=True)
    id: str
    image: str | tuple[str, ...] | None = None
    conversations: tuple[Turn, ...] = Field(min_length=2)

    @property
    def images(self) -> tuple[str, ...]:
        """Names of its images."""
        return (self.image,) if isinstance(self.image, str) else self.image or ()


class Records:
    """The records of a file, by their numbers."""

    def __init__(self, path: Path) -> None:
        """Find and check all records of a file.

        Args:
            path: JSON file: a list of records with `id`, `image` and `conversations`.

        Raises:
            DataError: if the file is broken.
        """
        self._path = path
        try:
            # Kept open: a file that is replaced under its name is read on as it was.
            self._file = path.open("rb")
        except OSError as error:
            raise DataError(str(path), f"cannot be read as JSON ({error})") from error
        weakref.finalize(self, self._file.close)
        # Where each record begins, and the end of the file.
        self._starts = array("q")
        try:
            self._scan()
        except (_Unexpected, ValueError, RecursionError):
            raise _problem(path) from None
        self.read = lru_cache(_KEPT)(self._read)

    def __len__(self) -> int:
        """Number of records."""
        return len(self._starts) - 1

    def _read(self, index: int) -> Record:
        """Read a record.

        Raises:
            DataError: if the file was changed in place.
        """
        begin, end = self._starts[index : index + 2]
        try:
            text = os.pread(self._file.fileno(), end - begin, begin).decode("utf-8")
            content, _ = _DECODER.raw_decode(text)
            return Record.model_validate(content)
        except ValueError as error:
            raise DataError(
                str(self._path), f"was changed while it was read: entry {index} is another one"
            ) from error

    def _scan(self) -> None:
        check = TypeAdapter(Record).validate_python
        for begin, content in _entries(_Text(self._file)):
            check(content)
            self._starts.append(begin)
        self._starts.append(os.fstat(self._file.fileno()).st_size)


class _Unexpected(Exception):
    """The file is no JSON list."""


class _Text:
    """A window of a file's text that moves forward.

    Attributes:
        text: the text of the window.
        at: position in it.
        ended: whether the file ends with the window.
    """

    def __init__(self, file: Any) -> None:  # noqa: ANN401
        self._file = file
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._bytes = 0
        self._counted = 0
        self.text, self.at, self.ended = "", 0, False

    def place(self) -> int:
        """Number of bytes of the file before the position."""
        passed = self.text[self._counted : self.at]
        self._bytes += len(passed) if passed.isascii() else len(passed.encode())
        self._counted = self.at
        return self._bytes

    def more(self) -> bool:
        """Read the next piece, and drop what lies before the position; False at the end."""
        if self.ended:
            return False
        self.place()
        # At least as much as the window has: a long entry is not parsed again for every piece.
        content = self._file.read(max(_PIECE, len(self.text) - self.at))
        self.ended = not content
        self.text = self.text[self.at :] + self._decoder.decode(content, final=self.ended)
        self.at = self._counted = 0
        return True

    def token(self) -> str:
        """The next character that is no white space, at the position; empty at the end."""
        while True:
            while self.at < len(self.text) and self.text[self.at] in _SPACE:
                self.at += 1
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.more():
                return ""

    def take(self, wanted: str) -> None:
        """Go past a character.

        Raises:
            _Unexpected: if another one is there.
        """
        if self.token() != wanted:
            raise _Unexpected
        self.at += 1


def _entries(text: _Text) -> Iterator[tuple[int, Any]]:
    """Each entry of a JSON list with the byte at which it begins.

    Raises:
        _Unexpected: if the text is no JSON list of objects.
    """
    decode = _DECODER.raw_decode
    text.take("[")
    while text.token() != "]":
        if text.token() != "{":
            raise _Unexpected
        begin = text.place()
        while True:
            try:
                content, end = decode(text.text, text.at)
                break
            except ValueError:
                if not text.more():
                    raise
        text.at = end
        yield begin, content
        if text.token() != "]":
            text.take(",")
            if text.token() == "]":
                raise _Unexpected
    text.take("]")
    if text.token():
        raise _Unexpected


def _hint(text: str) -> str:
    """What else a file may be that is no JSON list."""
    if not text.strip():
        return "; it is empty"
    if text.lstrip().startswith("{"):
        return f"; it seems to have a record on each line; {_FORMAT}"
    return ""


def _named(content: Any) -> str:
    return "a mapping" if isinstance(content, dict) else "no list"


def _problem(path: Path) -> DataError:
    """What is wrong with a file, read as a whole for the sake of the sentence."""
    try:
        text = path.read_text(encoding="utf-8")
        content: Any = json.loads(text)
    except UnicodeDecodeError as error:
        byte = f"byte {error.start} is {error.object[error.start]:#04x}"
        return DataError(
            str(path), f"cannot be read as JSON: it is not UTF-8 ({byte}: {error.reason})"
        )
    except (OSError, ValueError) as error:
        return DataError(str(path), f"cannot be read as JSON ({error}){_hint(text)}")
    except RecursionError:
        return DataError(str(path), "cannot be read as JSON: it is nested too deeply")
    if not isinstance(content, list):
        return DataError(str(path), f"is {_named(content)}; {_FORMAT}")
    try:
        TypeAdapter(list[Record]).validate_python(content)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        return DataError(
            str(path),
            f"entry {where}: got {reprlib.repr(problem['input'])}; {problem['msg'].lower()}; "
            + _FORMAT,
        )
    return DataError(str(path), "was changed while it was read")
