"""The pool's section: image sizes of encoders, and how images become squares."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from mordal_optuna.config import as_begun, parse_study
from mordal_optuna.errors import ConfigError


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
