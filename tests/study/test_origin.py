"""What a study was made with is stored with it, and versions that it ran with stay."""

from __future__ import annotations

import json
from importlib.metadata import version

import optuna

from mordal_optuna.search.attributes import COMMITS, INPUTS, TEMPLATE_DATE, store_value
from mordal_optuna.study.origin import (
    PACKAGES,
    Origin,
    present_versions,
    store_origin,
    stored_origin,
)

PROMPTS = {"llama": "USER: <image>\nWhat? ASSISTANT:"}


def test_what_was_stored_is_read() -> None:
    study = optuna.create_study()
    assert stored_origin(study.user_attrs) == Origin()
    store_origin(study, PROMPTS, "gqa", {"torch": "2.9"})
    store_value(study, COMMITS, {"llm:llama": "c0ffee"})
    store_value(study, INPUTS, {"data": {"images": "12"}})
    study.set_user_attr(TEMPLATE_DATE, "2026-11-27")
    found = stored_origin(study.user_attrs)
    assert found == Origin(
        ({"torch": "2.9"},),
        PROMPTS,
        "gqa",
        {"llm:llama": "c0ffee"},
        {"data": {"images": "12"}},
        "2026-11-27",
    )
    assert json.loads(json.dumps(found.to_json()))["prompts"] == PROMPTS


def test_a_study_continued_with_other_versions_lists_both_once() -> None:
    study = optuna.create_study()
    for torch in ("2.9", "2.10", "2.9"):
        store_origin(study, PROMPTS, "gqa", {"torch": torch})
    assert stored_origin(study.user_attrs).versions == ({"torch": "2.9"}, {"torch": "2.10"})


def test_present_versions_are_those_of_this_process() -> None:
    """Packages that are not installed are left out."""
    found = present_versions()
    assert found["torch"] == version("torch")
    assert found["mordal-optuna"] == version("mordal-optuna")
    assert found.keys() <= {"python", *PACKAGES}
