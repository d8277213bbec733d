"""Writes a study file whose keys are explained by the schema's own descriptions."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import yaml

from mordal_optuna.config.describing import descriptions, first_sentence, section_of
from mordal_optuna.config.schema import StudySettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mordal_optuna.config.base import Section

_COLUMNS = 98
# Keys that are written as comments with their defaults, by the section they are in: what users
# change first.
SUGGESTED: Mapping[str, Sequence[str]] = {
    "": ("storage", "shared", "also_score", "task_folders"),
    "alignment": ("recipe", "samples", "max_length", "micro_batch_tokens", "skip_broken_images"),
    "search": ("method", "device_hours"),
    "runtime": ("device", "feature_cache_gb"),
}


def study_text(content: Mapping[str, Any]) -> str:
    """A study file with a comment above each key.

    Args:
        content: content of the study file, valid under the schema.
    """
    head = (
        "# A study for `mordal run`. Paths are relative to the current directory. Keys behind `#` "
        "are\n# options at their defaults. `mordal plan` shows what the study takes.\n"
    )
    return head + "\n".join(_lines(StudySettings, content, "", 0)) + "\n"


def _lines(
    section: type[Section], content: Mapping[str, Any], name: str, depth: int
) -> Iterator[str]:
    described = descriptions(section)
    fields = section.model_fields
    suggested = SUGGESTED.get(name, ()) if depth < 2 else ()
    for key in fields:
        inner = section_of(fields[key].annotation)
        nested = inner and key in SUGGESTED and depth == 0
        if key not in content and key not in suggested and not nested:
            continue
        if depth == 0:
            yield ""
        yield from _comment(described.get(key, ""), depth)
        if key in content or nested:
            yield from _value(key, content.get(key, {}), inner, depth)
        else:
            yield f"{'  ' * depth}# {key}: {_flow(_default(fields[key]))}"


def _value(key: str, value: Any, inner: type[Section] | None, depth: int) -> Iterator[str]:
    margin = "  " * depth
    if isinstance(value, dict) and inner and depth < 2:
        lines = list(_lines(inner, value, key, depth + 1))
        # A section of comments alone would be empty, which is not allowed.
        alone = all(line.strip().startswith("#") for line in lines)
        yield f"{margin}{key}:" + (" {}" if alone else "")
        yield from lines
    elif isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        yield f"{margin}{key}:"
        yield from (f"{margin}  - {_flow(one)}" for one in value)
    else:
        yield f"{margin}{key}: {_flow(value)}"


def _comment(text: str, depth: int) -> list[str]:
    margin = "  " * depth + "# "
    if not text:
        return []
    sentence = first_sentence(text)
    return [
        margin + line
        for line in textwrap.wrap(
            sentence[0].upper() + sentence[1:], _COLUMNS - len(margin), break_on_hyphens=False
        )
    ]


def _default(field: Any) -> Any:
    value = field.get_default(call_default_factory=True)
    return list(value) if isinstance(value, tuple) else value


def _flow(value: Any) -> str:
    """A value on one line."""
    text: str = yaml.safe_dump(
        value, default_flow_style=True, width=float("inf"), sort_keys=False, allow_unicode=True
    )
    return text.removesuffix("...\n").strip()
