"""File formats of alignment sets and pictures."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from PIL.Image import Image

    from mordal_optuna.progress import Advance


@dataclass(frozen=True)
class Conversation:
    """One sample of an alignment set.

    Attributes:
        name: id of the sample.
        images: images by file name, all shown before the first question.
        turns: pairs of question and answer.
    """

    name: str
    images: dict[str, Image]
    turns: tuple[tuple[str, str], ...]


def write_conversations(
    folder: Path, conversations: Iterable[Conversation], advance: Advance
) -> None:
    """Write an alignment set in LLaVA's conversation format.

    Args:
        folder: receives `alignment.json` and the folder `images`.
        conversations: the samples; consumed one at a time.
        advance: callback that receives the number of samples just written.
    """
    images = folder / "images"
    images.mkdir(parents=True)
    records = []
    for conversation in conversations:
        for file, image in conversation.images.items():
            image.save(images / file)
        records.append(_record(conversation))
        advance(1)
    (folder / "alignment.json").write_text(json.dumps(records), encoding="utf-8")


def png(image: Image) -> dict[str, Any]:
    """An image as a value of a `datasets` image column."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def _record(conversation: Conversation) -> dict[str, Any]:
    files = list(conversation.images)
    placeholders = "<image>\n" * len(files)
    turns = []
    for question, answer in conversation.turns:
        turns.append({"from": "human", "value": f"{placeholders}{question}"})
        turns.append({"from": "gpt", "value": answer})
        placeholders = ""
    image = files[0] if len(files) == 1 else files
    return {"id": conversation.name, "image": image, "conversations": turns}
