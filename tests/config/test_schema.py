"""The schema: defaults, bounds, and which options identify a study."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from mordal_optuna.config import (
    EarlyDocuments,
    PoolSettings,
    RepresentationSettings,
    SearchSettings,
    TaskSettings,
    parse_study,
)
from mordal_optuna.errors import ConfigError
from mordal_optuna.search.documents import early_documents


def test_a_minimal_study_file_gets_every_default(content: dict[str, Any]) -> None:
    settings = parse_study(content)
    assert settings.search.method == "mordal"
    assert settings.storage_url().endswith("run/study.db")
    assert settings.models().candidates[0].llm == "qwen"


def test_the_machine_is_no_part_of_the_fingerprint(content: dict[str, Any]) -> None:
    other = copy.deepcopy(content)
    other["runtime"] = {"threads": 8}
    assert parse_study(content).fingerprint() == parse_study(other).fingerprint()


def test_what_changes_only_speed_or_place_is_no_other_study(content: dict[str, Any]) -> None:
    base = parse_study(content)
    faster = {**content["alignment"], "micro_batch_size": 1, "batching": "packed"}
    moved = parse_study(
        {**content, "alignment": faster, "checkpoints": {"folder": "memory://x", "keep": "latest"}}
    )
    assert moved.fingerprint() == base.fingerprint()
    tried = {**content.get("search", {}), "attempts": 5}
    away = parse_study({**content, "shared": "memory://bucket/x/", "search": tried})
    assert away.fingerprint() == base.fingerprint()
    assert "attempts" not in base.fingerprint()["search"]
    other = parse_study({**content, "alignment": {**content["alignment"], "schedule": "ema"}})
    assert other.fingerprint() != base.fingerprint()


def test_rungs_get_the_documents_of_the_first_entry_above_them() -> None:
    early = [{"below": 0.1, "documents": 100}, {"below": 0.25, "documents": 200}]
    task = TaskSettings.model_validate({"name": "gqa", "documents": 300, "early_documents": early})
    at = partial(task.documents_at, full_samples=100, documents=300)
    asked = {ratio: at(ratio) for ratio in (3, 9, 10, 24, 25, 100)}
    assert asked == {3: 100, 9: 100, 10: 200, 24: 200, 25: 300, 100: 300}
    assert TaskSettings(name="gqa").documents_at(1, 100, documents=50) == 50


def test_automatic_documents_depend_on_rung_and_number_of_tasks(content: dict[str, Any]) -> None:
    further = [{"name": "vizwiz_vqa_val"}, {"name": "docvqa_val"}]
    content["task"]["early_documents"] = "auto"
    study = parse_study(content | {"also_score": further, "also_score_at": "rungs"})
    assert study.tasks_per_rung == 3
    assert parse_study(content | {"also_score": further}).tasks_per_rung == 1
    at = partial(study.targets[0].documents_at, full_samples=665_000, documents=5000)
    assert at(20_000, tasks=3) == early_documents(20_000, 665_000, 5000, 3)
    assert at(20_000, tasks=3) < at(20_000, tasks=1) < at(40_000, tasks=1)
    assert at(665_000, tasks=3) == 5000


@pytest.mark.parametrize(
    ("section", "options"),
    [
        (SearchSettings, {"first_ratio": 0.0}),
        (SearchSettings, {"max_ratio": 1.5}),
        (SearchSettings, {"eta": 1}),
        (SearchSettings, {"fit_points": 1}),
        (SearchSettings, {"confidence": 1.0}),
        (SearchSettings, {"device_hours": 0.0}),
        (SearchSettings, {"llm_threshold": -1.1}),
        (RepresentationSettings, {"images": 3}),
        (RepresentationSettings, {"batch_size": 0}),
        (TaskSettings, {"name": "gqa", "documents": 0}),
        (EarlyDocuments, {"below": 0.0, "documents": 1}),
        (PoolSettings, {"vision_encoders": (), "llms": ()}),
    ],
)
def test_values_outside_their_documented_range_are_refused(
    section: type[Any], options: dict[str, Any]
) -> None:
    with pytest.raises(ValidationError):
        section(**options)


def test_what_a_study_extends_is_no_part_of_the_fingerprint(content: dict[str, Any]) -> None:
    extending = parse_study(content | {"extends": "earlier"})
    assert extending.extends == "earlier"
    assert extending.fingerprint() == parse_study(content).fingerprint()
    with pytest.raises(ConfigError, match="extends: 'same' is the study's own name"):
        parse_study(content | {"study": "same", "extends": "same"})


def test_merged_scoring_is_for_bf16_and_identifies_a_study_only_if_it_is_on(
    study_content: dict[str, Any],
) -> None:
    """A running study cannot change to it, and those that began without the key go on."""
    plain = parse_study(study_content)
    assert "evaluation" not in plain.fingerprint()
    merged = study_content | {"evaluation": {"merged": True}}
    with pytest.raises(ConfigError, match="evaluation.merged: needs alignment.precision bf16"):
        parse_study(merged)
    low = study_content["alignment"] | {"precision": "bf16"}
    assert parse_study(merged | {"alignment": low}).fingerprint()["evaluation"] == {
        "engine": "live",
        "merged": True,
    }


def test_shared_files_are_in_the_work_folder_unless_the_file_says_otherwise(
    content: dict[str, Any],
) -> None:
    """Where studies of older versions have them; a worker's scratch folder moves none of them."""
    base = parse_study(content)
    assert base.checkpoint_folder() == str(base.workdir / "checkpoints")
    assert base.shared_folder() == str(base.workdir)
    away = parse_study({**content, "shared": "memory://bucket/x/"})
    assert away.checkpoint_folder() == "memory://bucket/x/checkpoints"
    for settings in (base, away):
        worker = settings.with_scratch(Path("/scratch"))
        assert worker.workdir == Path("/scratch")
        assert worker.storage_url() == settings.storage_url()
        assert worker.checkpoint_folder() == settings.checkpoint_folder()
        assert worker.shared_folder() == settings.shared_folder()
        assert worker.fingerprint() == settings.fingerprint()


def test_the_command_at_the_end_is_a_list_or_a_string_and_no_part_of_the_study(
    content: dict[str, Any],
) -> None:
    base = parse_study(content)
    assert base.on_finish is None
    for given, read in (
        (["notify", "a b"], ("notify", "a b")),
        ("notify && x", "notify && x"),
    ):
        settings = parse_study(content | {"on_finish": given})
        assert settings.on_finish == read
        assert settings.fingerprint() == base.fingerprint()
    for wrong in ("", "  ", [], [""], [1], {"a": "b"}, True):
        with pytest.raises(ConfigError) as caught:
            parse_study(content | {"on_finish": wrong})
        (problem,) = caught.value.problems
        assert problem.startswith(f"on_finish: got {wrong!r}; allowed are a string for the shell")
