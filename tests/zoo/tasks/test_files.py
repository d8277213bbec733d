"""The conversation format of alignment sets."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from PIL import Image

from mordal_optuna.zoo.tasks.files import Conversation, png, write_conversations

if TYPE_CHECKING:
    from pathlib import Path


def test_placeholders_stand_in_the_first_question_and_images_are_files(tmp_path: Path) -> None:
    red, blue = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")
    conversations = (
        Conversation("one", {"a.png": red}, (("What?", "red"), ("And?", "no"))),
        Conversation("two", {"b.png": red, "c.png": blue}, (("Which?", "first"),)),
    )
    written: list[int] = []
    write_conversations(tmp_path / "set", conversations, written.append)
    assert written == [1, 1]
    one, two = json.loads((tmp_path / "set" / "alignment.json").read_text(encoding="utf-8"))
    assert one == {
        "id": "one",
        "image": "a.png",
        "conversations": [
            {"from": "human", "value": "<image>\nWhat?"},
            {"from": "gpt", "value": "red"},
            {"from": "human", "value": "And?"},
            {"from": "gpt", "value": "no"},
        ],
    }
    assert two["image"] == ["b.png", "c.png"]
    assert two["conversations"][0]["value"] == "<image>\n<image>\nWhich?"
    assert Image.open(tmp_path / "set" / "images" / "c.png").getpixel((0, 0)) == (0, 0, 255)
    assert png(red)["bytes"].startswith(b"\x89PNG")
