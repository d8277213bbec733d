"""The quick start's data: schemas, and no picture twice."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from datasets import load_dataset
from PIL import Image

from mordal_optuna.zoo.tasks.quickstart import (
    PICTURE_SIZE,
    write_alignment,
    write_scenes_task,
    write_scienceqa_task,
)

if TYPE_CHECKING:
    from pathlib import Path


def test_no_picture_is_in_both_alignment_set_and_tasks(tmp_path: Path) -> None:
    """The two tasks have the columns that their task code reads."""
    write_alignment(tmp_path / "set", samples=30, seed=1, advance=lambda _: None)
    write_scenes_task(tmp_path / "scenes", documents=20, seed=2, advance=lambda _: None)
    write_scienceqa_task(tmp_path / "science", documents=20, seed=3, advance=lambda _: None)
    # A cache of its own: `datasets` distinguishes local folders only by name and configuration.
    cache = str(tmp_path / "cache")
    scenes = load_dataset(str(tmp_path / "scenes"), "default", split="test", cache_dir=cache)
    science = load_dataset(
        str(tmp_path / "science"), "ScienceQA-IMG", split="test", cache_dir=cache
    )
    assert set(scenes.column_names) == {"id", "image", "question", "answer"}
    assert set(science.column_names) == {"image", "question", "choices", "answer", "hint"}
    assert all(0 <= row["answer"] < len(row["choices"]) for row in science)
    images = [Image.open(path) for path in (tmp_path / "set" / "images").iterdir()]
    images += [*scenes["image"], *science["image"]]
    assert {image.size for image in images} == {(PICTURE_SIZE, PICTURE_SIZE)}
    assert len({image.tobytes() for image in images}) == 30 + 20 + 20


def test_a_tenth_of_the_conversations_is_multiple_choice(tmp_path: Path) -> None:
    write_alignment(tmp_path / "set", samples=200, seed=1, advance=lambda _: None)
    records = json.loads((tmp_path / "set" / "alignment.json").read_text(encoding="utf-8"))
    letters = [r for r in records if r["conversations"][1]["value"] in "ABC"]
    assert 8 <= len(letters) <= 35
    assert all("\nA. " in r["conversations"][0]["value"] for r in letters)
