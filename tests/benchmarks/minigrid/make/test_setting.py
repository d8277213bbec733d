"""The minigrid's study file names the pool that its recipe builds."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from benchmarks.minigrid.make.setting import POOL, STUDY
from benchmarks.minigrid.pool.minigrid import MINIGRID
from mordal_optuna.config import parse_study
from mordal_optuna.config.adaptation import adapted

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_every_location_is_a_part_of_the_pool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing in the study file is adapted to the size of its alignment set."""
    import yaml

    monkeypatch.chdir(tmp_path)
    for part in MINIGRID.parts():
        (POOL / part.path).mkdir(parents=True)
    (POOL / "alignment" / "images").mkdir()
    (POOL / "alignment" / "alignment.json").write_text("[]")
    shutil.copy(STUDY, tmp_path)
    settings = parse_study(yaml.safe_load(STUDY.read_text(encoding="utf-8")))
    pool = settings.models()
    assert set(pool.encoder_names) == {encoder.name for encoder in MINIGRID.encoders}
    assert set(pool.llm_names) == {llm.name for llm in MINIGRID.llms}
    parts = {str(POOL / part.path) for part in MINIGRID.parts()}
    assert {model.location for model in (*pool.vision_encoders, *pool.llms)} <= parts
    assert {str(task.data) for task in settings.scored_tasks} <= parts
    assert settings.alignment.samples == MINIGRID.alignment.samples
    assert adapted(settings, MINIGRID.alignment.samples) == (settings, None)
