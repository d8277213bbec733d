"""What the schema says of each key: the `Attributes:` sections of its classes' docstrings."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

if TYPE_CHECKING:
    from mordal_optuna.config.base import Section

_ENTRY = re.compile(r"^ {4}(\w+): (.*)$")


def descriptions(section: type[Section]) -> dict[str, str]:
    """Descriptions of a section's keys, those of the classes it extends included.

    Args:
        section: class of the section.
    """
    found: dict[str, str] = {}
    for one in reversed(section.__mro__):
        if issubclass(one, BaseModel) and "__doc__" in vars(one):
            found |= _described(inspect.cleandoc(one.__doc__ or ""))
    return {key: text for key, text in found.items() if key in section.model_fields}


def _described(docstring: str) -> dict[str, str]:
    _, there, listed = docstring.partition("Attributes:\n")
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in listed.splitlines() if there else ():
        entry = _ENTRY.match(line)
        if entry:
            lines = found.setdefault(entry.group(1), [])
            lines.append(entry.group(2))
        elif line.startswith("     ") and lines:
            lines.append(line.strip())
        elif line.strip():
            break  # the next part of the docstring
    return {key: " ".join(text) for key, text in found.items()}


def first_sentence(text: str) -> str:
    """The first sentence of a description.

    Args:
        text: the description.
    """
    end = re.search(r"(?<!such as)(?<!\be\.g)\.(?= [A-Z`]|$)", text)
    return text[: end.end()] if end else text


def section_of(annotation: Any) -> type[Section] | None:
    """The section class inside an annotation such as `tuple[ModelSettings, ...] | None`.

    Args:
        annotation: annotation of a field.
    """
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation  # type: ignore[return-value]
    inner = (section_of(part) for part in getattr(annotation, "__args__", ()))
    return next((section for section in inner if section is not None), None)
