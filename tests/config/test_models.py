"""The pool's section: image sizes of encoders, options of chat templates, identities."""

from __future__ import annotations

import copy
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from mordal_optuna.config import LlmSettings, as_begun, parse_study
from mordal_optuna.errors import ConfigError
from mordal_optuna.pool import TemplateOptions

if TYPE_CHECKING:
    from pathlib import Path

PLAIN = {"name": "q", "location": "a/q"}


def changed(content: dict[str, Any], **image: Any) -> dict[str, Any]:
    """The study with another image size of its first encoder, or another aspect."""
    other = copy.deepcopy(content)
    if "size" in image:
        other["pool"]["vision_encoders"][0]["image_size"] = image["size"]
    if "aspect" in image:
        other["image_aspect"] = image["aspect"]
    return other


def test_encoders_get_the_studys_aspect_and_their_size_and_llms_neither(
    content: dict[str, Any],
) -> None:
    for size in (518, None):
        encoder = parse_study(changed(content, size=size)).models().vision_encoders[0]
        assert (encoder.image_aspect, encoder.image_size) == ("pad", size)
    pool = parse_study(changed(content, aspect="own")).models()
    assert {s.image_aspect for s in (*pool.vision_encoders, *pool.llms)} == {"own"}
    assert all(not s.pixels() for s in (*pool.vision_encoders, *pool.llms))
    assert all(not s.pixels() for s in parse_study(content).models().llms)


def test_own_pixels_are_stored_as_older_versions_stored_them(content: dict[str, Any]) -> None:
    fingerprint = parse_study(changed(content, aspect="own")).fingerprint()
    assert "image_aspect" not in fingerprint
    assert set(fingerprint["pool"]["vision_encoders"][0]) == {
        *("name", "location", "revision", "trust_remote_code"),
    }
    padded = parse_study(changed(content, size=56)).fingerprint()
    assert padded["image_aspect"] == "pad"
    assert padded["pool"]["vision_encoders"][0]["image_size"] == 56
    plain = parse_study(content).fingerprint()
    assert "image_size" not in plain["pool"]["vision_encoders"][0]


def test_an_older_study_goes_on_with_own_pixels_unless_its_file_says_otherwise(
    content: dict[str, Any],
) -> None:
    stored = parse_study(changed(content, aspect="own")).fingerprint()
    silent = parse_study(content)
    assert as_begun(silent, stored).image_aspect == "own"
    assert as_begun(silent, silent.fingerprint()).image_aspect == "pad"
    explicit = parse_study(changed(content, aspect="pad"))
    assert as_begun(explicit, stored).image_aspect == "pad"


def test_an_encoder_may_be_listed_at_two_sizes(content: dict[str, Any]) -> None:
    twice = copy.deepcopy(content)
    first = twice["pool"]["vision_encoders"][0]
    twice["pool"]["vision_encoders"].append({**first, "name": "larger", "image_size": 64})
    assert len(parse_study(twice).models().vision_encoders) == 1 + len(
        content["pool"]["vision_encoders"]
    )
    del twice["pool"]["vision_encoders"][-1]["image_size"]
    with pytest.raises(ConfigError, match="appears twice"):
        parse_study(twice)


def test_wrong_values_are_refused(content: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"image_aspect: got 'crop'; input should be 'pad' or"):
        parse_study(changed(content, aspect="crop"))
    with pytest.raises(ConfigError, match=r"vision_encoders\.0\.image_size: got 0"):
        parse_study(changed(content, size=0))
    llm = copy.deepcopy(content)
    llm["pool"]["llms"][0]["image_size"] = 64
    with pytest.raises(ConfigError, match=r"llms\.0\.image_size: unknown key"):
        parse_study(llm)


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
