"""The content of a valid study file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def content(tmp_path: Path) -> dict[str, Any]:
    """A study file without mistakes."""
    (tmp_path / "images").mkdir()
    (tmp_path / "data.json").write_text("[]")
    return {
        "study": "mine",
        "workdir": str(tmp_path / "run"),
        "pool": {
            "vision_encoders": [{"name": "clip", "location": "openai/clip-vit-base-patch32"}],
            "llms": [{"name": "qwen", "location": "Qwen/Qwen2-0.5B", "revision": "main"}],
        },
        "alignment": {
            "conversations": str(tmp_path / "data.json"),
            "images": str(tmp_path / "images"),
        },
        "task": {"name": "gqa"},
    }
