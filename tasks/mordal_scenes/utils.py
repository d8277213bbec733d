"""How lmms-eval shows a scene to a model."""

from __future__ import annotations

from typing import Any


def doc_to_visual(doc: dict[str, Any]) -> list[Any]:
    """The picture of a document."""
    return [doc["image"].convert("RGB")]


def doc_to_text(doc: dict[str, Any]) -> str:
    """The question, without any addition."""
    text: str = doc["question"]
    return text
