"""Samples: turns of a `messages` column, and which conversations are refused."""

from __future__ import annotations

from typing import Any

import pytest

from mordal_optuna.alignment.samples import (
    Sample,
    sample_from_messages,
    split_at_images,
    text_part,
)
from mordal_optuna.errors import DataError


def sample(*turns: tuple[str, Any], images: int = 0) -> Sample:
    messages = [{"role": role, "content": content} for role, content in turns]
    return sample_from_messages("7", messages, lambda: images)


def test_placeholders_become_images_and_texts_lose_them() -> None:
    image = {"type": "image"}
    assert split_at_images("<image>\nWhat?") == [image, {"type": "text", "text": "What?"}]
    assert split_at_images("a <image><image>") == [{"type": "text", "text": "a"}, image, image]
    assert split_at_images("") == [{"type": "text", "text": ""}]
    assert text_part("<image>\nWhat?") == {"type": "text", "text": "What?"}


def test_images_that_no_turn_shows_come_first() -> None:
    made = sample(("system", "Answer."), ("user", "What?"), ("assistant", "red"), images=2)
    assert made.images == 2
    assert [part["type"] for part in made.messages[1]["content"]] == ["image", "image", "text"]


@pytest.mark.parametrize(
    ("turns", "images", "reason"),
    [
        ([("user", "What?")], 0, "ends with a question"),
        ([], 0, "has turns by no role"),
        ([("assistant", "red"), ("user", "What?")], 0, "has turns by assistant, user; user and"),
        ([("user", "<image>What?"), ("assistant", "red")], 2, "shows 1 images .* comes with 2"),
    ],
)
def test_conversations_that_cannot_be_rendered_are_refused(
    turns: list[tuple[str, Any]], images: int, reason: str
) -> None:
    with pytest.raises(DataError, match=f"data '7': {reason}"):
        sample(*turns, images=images)
