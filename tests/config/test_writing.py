"""A written study file has the given values, comments of the schema, and valid suggestions."""

from __future__ import annotations

import re
from typing import Any

import yaml

from mordal_optuna.config import parse_study
from mordal_optuna.config.writing import SUGGESTED, study_text

CONTENT: dict[str, Any] = {
    "study": "s",
    "workdir": "w",
    "pool": {
        "vision_encoders": [{"name": "v", "location": "a/b"}],
        "llms": [{"name": "m", "location": "c/d"}],
    },
    "alignment": {"conversations": "c.json", "images": "i"},
    "task": {"name": "ai2d"},
}


def test_values_are_kept() -> None:
    written = {k: v for k, v in yaml.safe_load(study_text(CONTENT)).items() if v}
    assert written == CONTENT
    assert parse_study(yaml.safe_load(study_text(CONTENT)), places=False).study == "s"


def test_comments_are_the_schemas() -> None:
    text = study_text(CONTENT)
    assert "# Name of the Optuna study.\nstudy: s\n" in text
    assert "  # JSON file in LLaVA's conversation format.\n  conversations: c.json\n" in text
    assert max(map(len, text.splitlines())) <= 100


def test_suggestions_are_options_at_their_defaults() -> None:
    """Without their `#` they change nothing."""
    text = study_text(CONTENT)
    named = {key for keys in SUGGESTED.values() for key in keys}
    assert named == set(re.findall(r"^ *# (\w+): (?!.*\.$)", text, re.MULTILINE)) & named
    options = "|".join(named)
    plain = re.sub(rf"^( *)# (?=(?:{options}): )", r"\1", text, flags=re.MULTILINE)
    plain = re.sub(r": \{\}$", ":", plain, flags=re.MULTILINE)
    settings = parse_study(yaml.safe_load(plain), places=False)
    assert settings.model_dump() == parse_study(CONTENT, places=False).model_dump()
