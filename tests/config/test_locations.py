"""Misspelt folders are told from hub ids without asking the hub."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from mordal_optuna.config import parse_study
from mordal_optuna.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def content(folder: Path, location: str, **more: Any) -> dict[str, Any]:
    """A study with an encoder at a location."""
    (folder / "talks.json").write_text("[]")
    return {
        "study": "s",
        "workdir": "run",
        "pool": {
            "vision_encoders": [{"name": "clip", "location": location, **more}],
            "llms": [{"name": "qwen", "location": "owner/qwen"}],
        },
        "alignment": {"conversations": "talks.json", "images": "."},
        "task": {"name": "gqa"},
    }


@pytest.mark.parametrize(
    ("location", "more", "refused"),
    [
        ("models/clip-x", {}, True),
        ("models/clip-x", {"revision": "main"}, False),
        ("models/clip-l", {}, False),
        ("clip-xl", {}, True),
        ("gpt2", {}, False),
        ("owner/clip-x", {}, False),
        ("hf-hub:owner/clip", {}, False),
    ],
)
def test_a_misspelt_folder_is_not_taken_for_a_hub_id(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    location: str,
    more: dict[str, Any],
    refused: bool,
) -> None:
    """A folder of its owner's name is here, or a folder of nearly its name."""
    monkeypatch.chdir(tmp_path)
    for name in ("models/clip-l", "models/dino", "clip-xxl"):
        (tmp_path / name).mkdir(parents=True)
    if not refused:
        parse_study(content(tmp_path, location, **more))
        return
    with pytest.raises(ConfigError, match=f"{location!r} does not exist here, but there are '.*'"):
        parse_study(content(tmp_path, location, **more))
    parse_study(content(tmp_path, location, **more), places=False)


def test_what_the_embedded_pool_makes_need_not_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zoo" / "encoders").mkdir(parents=True)
    zoo = {"zoo": {"recipe": "tiny", "folder": "zoo"}}
    parse_study(content(tmp_path, "zoo/clip-t") | zoo)
    with pytest.raises(ConfigError, match="does not exist here"):
        parse_study(content(tmp_path, "zoo/clip-t"))
