"""How lmms-eval shows a scene to a model, and which questions belong to which task."""

from __future__ import annotations

from typing import Any


def doc_to_visual(doc: dict[str, Any]) -> list[Any]:
    """The picture of a document."""
    return [doc["image"].convert("RGB")]


def doc_to_text(doc: dict[str, Any]) -> str:
    """The question, without any addition."""
    text: str = doc["question"]
    return text


def colors(docs: Any) -> Any:
    """The questions about a colour."""
    return _beginning(docs, "What color")


def shapes(docs: Any) -> Any:
    """The questions about a shape."""
    return _beginning(docs, "What shape")


def places(docs: Any) -> Any:
    """The questions about a place."""
    return _beginning(docs, "Where")


def _beginning(docs: Any, words: str) -> Any:
    """The documents whose question begins with some words, in their order."""
    questions = docs["question"]
    return docs.select([n for n, text in enumerate(questions) if text.startswith(words)])
