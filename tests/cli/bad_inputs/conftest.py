"""The folder of a case, and a study file that could be run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.bad_inputs.cases import World

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A study file that passes all checks but those of models, data and tasks."""
    monkeypatch.chdir(tmp_path)
    for name in ("MORDAL_STORAGE", "WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "images").mkdir()
    (tmp_path / "talks.json").write_text("[]")
    content = {
        "study": "s",
        "workdir": str(tmp_path / "run"),
        "pool": {
            "vision_encoders": [{"name": n, "location": f"owner/{n}"} for n in ("clip", "dino")],
            "llms": [{"name": n, "location": f"owner/{n}"} for n in ("llama", "qwen")],
        },
        "alignment": {"conversations": "talks.json", "images": "images"},
        "task": {"name": "mordal_scenes"},
    }
    return World(tmp_path, content, tmp_path)


@pytest.fixture
def real(world: World, zoo: Path, study_content: dict[str, Any]) -> World:
    """The study of the embedded pool, which can be run."""
    return World(world.folder, study_content, zoo)
