"""The look at the alignment data: counts are those of a run, and what is wrong is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mordal_optuna.config import parse_study
from mordal_optuna.planning.data import read_data


def test_samples_are_those_of_a_run(study_content: dict[str, Any]) -> None:
    del study_content["alignment"]["samples"]
    data = read_data(parse_study(study_content))
    assert (data.available, data.samples, data.read, data.problem) == (64, 64, 64, "")
    assert (data.text_only, data.missing, data.broken) == (0.0, (), ())


def test_missing_images_and_broken_records_are_counted(
    study_content: dict[str, Any], tmp_path: Path
) -> None:
    file = Path(study_content["alignment"]["conversations"])
    records = json.loads(file.read_text())
    records[0]["image"] = "absent.png"
    records[1]["conversations"][0]["from"] = "gpt"
    del records[2]["image"]
    for turn in records[2]["conversations"]:
        turn["value"] = turn["value"].replace("<image>", "")
    changed = tmp_path / "changed.json"
    changed.write_text(json.dumps(records))
    study_content["alignment"]["conversations"] = str(changed)
    data = read_data(parse_study(study_content))
    assert len(data.missing) == 1
    assert data.missing[0].endswith("absent.png")
    assert len(data.broken) == 1
    assert data.text_only == 1 / 63


def test_too_few_samples_and_absent_files(study_content: dict[str, Any]) -> None:
    study_content["alignment"]["samples"] = 128
    assert (
        "holds 64 samples; a full alignment needs 128"
        in read_data(parse_study(study_content)).problem
    )
    study_content["alignment"]["conversations"] = "absent.json"
    data = read_data(parse_study(study_content, places=False))
    assert (data.found, data.samples) == (False, 128)
    assert "'absent.json' does not exist" in data.problem
