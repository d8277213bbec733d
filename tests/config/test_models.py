"""Models in a study file: options of chat templates, and what identifies an LLM."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import pytest
from pydantic import ValidationError

from mordal_optuna.config import LlmSettings
from mordal_optuna.errors import ConfigError
from mordal_optuna.pool import TemplateOptions

if TYPE_CHECKING:
    from pathlib import Path

PLAIN = {"name": "q", "location": "a/q"}


def test_without_options_an_llm_is_identified_as_before() -> None:
    """Studies of versions without these options continue."""
    assert LlmSettings(**PLAIN).fingerprint() == {
        **PLAIN,
        "revision": None,
        "trust_remote_code": False,
    }
    assert LlmSettings(**PLAIN).source().template == TemplateOptions()


def test_arguments_and_template_identify_it_wherever_the_template_is_stored(
    tmp_path: Path,
) -> None:
    place = tmp_path / "t.jinja"
    place.write_text("{{ messages }}")
    given = {**PLAIN, "template_args": {"enable_thinking": True, "effort": 2}}
    by_path = LlmSettings(**given, chat_template=str(place))
    by_text = LlmSettings(**given, chat_template="{{ messages }}")
    assert by_path.fingerprint() == by_text.fingerprint()
    assert by_path.fingerprint()["template_args"] == {"enable_thinking": True, "effort": 2}
    assert by_text.source(date(2026, 1, 2)).template == TemplateOptions(
        "{{ messages }}", (("effort", 2), ("enable_thinking", True)), "2026-01-02"
    )
    assert by_path.source().template.text == "{{ messages }}"


def test_names_of_arguments_and_missing_templates_are_refused() -> None:
    with pytest.raises(ValidationError, match="template_args"):
        LlmSettings(**PLAIN, template_args={"a b": 1})
    with pytest.raises(ConfigError, match=r"pool\.llms\.q\.chat_template: 'no\.jinja' cannot be"):
        LlmSettings(**PLAIN, chat_template="no.jinja").source()
