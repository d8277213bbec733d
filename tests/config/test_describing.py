"""Descriptions of keys are those of the docstrings, and no key lacks one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mordal_optuna.config import LlmSettings, StudySettings
from mordal_optuna.config.describing import descriptions, first_sentence, section_of

if TYPE_CHECKING:
    from mordal_optuna.config import Section


def sections(one: type[Section]) -> set[type[Section]]:
    """A section and all that are inside it."""
    inner = {section_of(field.annotation) for field in one.model_fields.values()}
    return {one}.union(*(sections(other) for other in inner if other))


def test_every_key_has_a_description() -> None:
    assert len(sections(StudySettings)) > 10
    for section in sections(StudySettings):
        assert descriptions(section).keys() == section.model_fields.keys(), section


def test_inherited_keys_and_several_lines() -> None:
    found = descriptions(LlmSettings)
    assert found["location"] == "local folder or hub id."
    assert found["template_args"].endswith("no value is given.")


def test_a_sentence_ends_where_the_next_begins() -> None:
    assert first_sentence("one, 0.5 of it. Two.") == "one, 0.5 of it."
    assert first_sentence("one alone.") == "one alone."
