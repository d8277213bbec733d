"""Every example runs as it stands."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.commands import run

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_the_list_of_examples_is_complete() -> None:
    """A new example needs a test here and a line in the list."""
    names = {path.name for path in EXAMPLES.iterdir()} - {"__pycache__"}
    assert names == {"README.md", "plain_optuna.py", "replay_grid.py", "own_task"}
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert all(f"({name})" in text for name in names - {"README.md"})


def test_plain_optuna(tmp_path: Path) -> None:
    """The best encoder with the best LLM, for less than the grid."""
    printed = run([str(EXAMPLES / "plain_optuna.py")], tmp_path)
    assert "winner: {'vision_encoder': 'siglip-so400m', 'llm': 'qwen2-7b'}" in printed
    assert "ended: " in printed


def test_replay_grid(tmp_path: Path) -> None:
    """The grid itself loses nothing and costs 49 full runs; the search costs less."""
    lines = run([str(EXAMPLES / "replay_grid.py")], tmp_path).splitlines()
    rows = {words[0]: words for words in map(str.split, lines[1:])}
    assert set(rows) == {"mordal", "all-at-ratio", "random", "grid"}
    assert rows["grid"][-2:] == ["0.0", "49.0"]
    assert float(rows["mordal"][-1]) < 10


@pytest.mark.long
def test_own_task(tmp_path: Path) -> None:
    """Data, task and study, as the list of examples says."""
    folder = tmp_path / "own_task"
    shutil.copytree(EXAMPLES / "own_task", folder, ignore=shutil.ignore_patterns("runs", "signs"))
    run(["make_data.py"], folder)
    printed = run(["-m", "mordal_optuna", "run", "study.yaml"], folder)
    assert "winner" in printed
    assert "on signs" in printed
    assert (folder / "runs" / "signs" / "signs.html").is_file()
