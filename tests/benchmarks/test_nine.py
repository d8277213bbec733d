"""The study of the nine pairs names the pool that its recipe builds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.nine import NINE, study

if TYPE_CHECKING:
    from pathlib import Path


def test_the_study_uses_the_models_of_the_recipe(tmp_path: Path) -> None:
    for part in NINE.parts():
        (tmp_path / part.path).mkdir(parents=True)
    (tmp_path / "alignment" / "images").mkdir()
    (tmp_path / "alignment" / "alignment.json").write_text("[]")
    settings = study(tmp_path)
    pool = settings.models()
    assert pool.encoder_names == tuple(encoder.name for encoder in NINE.encoders)
    assert pool.llm_names == tuple(llm.name for llm in NINE.llms)
    assert settings.alignment.samples == NINE.alignment_samples
