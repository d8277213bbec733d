"""Sentences name the value that would mend what is wrong, and the value does."""

from __future__ import annotations

import re
from typing import Any

from mordal_optuna.config import parse_study
from mordal_optuna.planning.devices import device_named
from tests.planning.studies import planned, shipped_settings


def advice(content: Any, device: str = "cpu") -> list[str]:  # noqa: ANN401
    return list(planned(content, device_named(device))[1].advice)


def test_a_study_in_order_needs_no_change(study_content: dict[str, Any]) -> None:
    assert advice(study_content) == []


def test_a_value_that_fits_is_named_and_fits() -> None:
    """Batches that need more than a card has; with the named value all pairs fit."""
    settings = shipped_settings("card-24gb")
    assert not [line for line in advice(settings, "4090") if "GB of" in line]
    plain = settings.alignment.model_copy(update={"micro_batch_tokens": None})
    (line,) = [
        line
        for line in advice(settings.model_copy(update={"alignment": plain}), "4090")
        if "GB of" in line
    ]
    named = re.search(r"`micro_batch_tokens: (\d+)`", line)
    assert named
    mended = plain.model_copy(update={"micro_batch_tokens": int(named[1])})
    if "gradient_checkpointing: true" in line:
        mended = mended.model_copy(update={"gradient_checkpointing": True})
    changed = settings.model_copy(update={"alignment": mended})
    assert not [line for line in advice(changed, "4090") if "GB of" in line]


def test_a_model_that_never_fits_needs_another_device() -> None:
    (line,) = [line for line in advice(shipped_settings("paper-gqa"), "l4") if "GB of" in line]
    assert "it needs a device such as" in line


def test_data_that_lose_samples_are_named(study_content: dict[str, Any]) -> None:
    study_content["alignment"] |= {"batch_size": 24}
    study_content["search"] = {"method": "grid", "first_ratio": 1.0, "max_ratio": 1.0}
    del study_content["alignment"]["samples"]
    assert "64 samples become 48, a whole number of batches of 24" in advice(study_content)[0]


def test_an_image_longer_than_a_sequence_is_named(study_content: dict[str, Any]) -> None:
    study_content["alignment"]["max_length"] = 16
    study_content["pool"]["vision_encoders"] = study_content["pool"]["vision_encoders"][:1]
    lines = advice(study_content)
    assert any("an image takes 16 tokens, and max_length is 16" in line for line in lines)
    named = re.search(r"`max_length: (\d+)`", " ".join(lines))
    assert named
    study_content["alignment"]["max_length"] = int(named[1])
    assert advice(study_content) == []


def test_an_undefined_task_and_a_misspelt_folder_are_named(study_content: dict[str, Any]) -> None:
    study_content |= {"task": {"name": "other"}, "also_score": []}
    study_content["pool"]["llms"][0]["location"] = "no/such/folder"
    model, task = advice(parse_study(study_content, places=False))
    assert "pool.llms.llama-t: 'no/such/folder' is no existing folder and no hub id" in model
    assert task.startswith("task other: is in no YAML of `task_folders`")


def test_unusable_models_come_first(study_content: dict[str, Any]) -> None:
    study_content["pool"]["llms"].append({"name": "absent", "location": "owner/absent"})
    first, second = planned(parse_study(study_content))
    assert second.forecast is None
    assert "the sizes of absent are not known" in second.missing
    assert first.away == "HF_HUB_OFFLINE is set"
