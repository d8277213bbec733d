"""Samples of the alignment data: conversations with images, and how their turns are read."""

from __future__ import annotations

import reprlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

from mordal_optuna.errors import DataError
from mordal_optuna.models.template import IMAGE_TOKEN

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Message(TypedDict):
    """One turn, as chat templates expect it."""

    role: str
    content: list[dict[str, str]]


@dataclass(frozen=True)
class Sample:
    """One conversation.

    Attributes:
        id: identifier in the source.
        messages: turns, the last one an answer; images are parts of the turns that show them.
    """

    id: str
    messages: tuple[Message, ...]

    @property
    def images(self) -> int:
        """Number of images that the turns show."""
        return sum(part["type"] == "image" for m in self.messages for part in m["content"])


def sample_from_messages(
    identifier: str, messages: Sequence[Any], count_images: Callable[[], int]
) -> Sample:
    """Read a row of a `messages` column.

    If no turn shows an image, all images are put at the start of the first question.

    Args:
        identifier: identifier of the sample.
        messages: turns with `role` and `content`, a text or a list of parts.
        count_images: function that counts the row's images.

    Raises:
        DataError: if it is no list of turns, the turns do not alternate, or images are missing.
    """
    try:
        turns = [_turn(message) for message in messages]
    except (AttributeError, KeyError, TypeError) as error:
        raise DataError(
            identifier,
            f"has the messages {reprlib.repr(messages)}; they must be a list of turns, each with "
            "`role` and `content`, a text or a list of parts",
        ) from error
    sample = Sample(identifier, tuple(turns))
    count = count_images()
    if count and not sample.images and turns:
        first = next((t for t in turns if t["role"] == "user"), turns[0])
        first["content"][:0] = [{"type": "image"}] * count
    return checked(sample, count)


def _turn(message: Any) -> Message:
    content = message["content"]
    parts = (
        split_at_images(content)
        if isinstance(content, str)
        else [{"type": "image"} if p["type"] == "image" else text_part(p["text"]) for p in content]
    )
    return Message(role=str(message["role"]), content=parts)


def checked(sample: Sample, images: int) -> Sample:
    """Check that a sample can be rendered by chat templates.

    Args:
        sample: the conversation.
        images: number of images that come with it.

    Returns:
        The same sample.

    Raises:
        DataError: if questions and answers do not alternate, or the turns show another number of
            images.
    """
    roles = [message["role"] for message in sample.messages]
    if roles and roles[0] == "system":
        roles = roles[1:]
    if len(roles) % 2:
        raise DataError(sample.id, "ends with a question; the last turn must be an answer")
    if not roles or any(r != ("user", "assistant")[n % 2] for n, r in enumerate(roles)):
        raise DataError(
            sample.id,
            f"has turns by {', '.join(roles) or 'no role'}; user and assistant must alternate",
        )
    if sample.images != images:
        raise DataError(
            sample.id,
            f"shows {sample.images} images in its turns and comes with {images}; the two must be "
            "equal",
        )
    return sample


def text_part(value: str) -> dict[str, str]:
    """A text as a part of a turn, without image placeholders.

    Args:
        value: the text.
    """
    return {"type": "text", "text": value.replace(IMAGE_TOKEN, "").strip()}


def split_at_images(value: str) -> list[dict[str, str]]:
    """A text with `<image>` placeholders as parts: texts, and an image for each placeholder.

    Args:
        value: the text.
    """
    parts: list[dict[str, str]] = []
    pieces: Sequence[str] = value.split(IMAGE_TOKEN)
    for number, piece in enumerate(pieces):
        if number:
            parts.append({"type": "image"})
        if piece.strip() or len(pieces) == 1:
            parts.append(text_part(piece))
    return parts
