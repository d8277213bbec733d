"""Atomic writes: whole or not at all, and nothing is left behind."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from mordal_optuna.files.atomic import atomic_write, rename_durably

if TYPE_CHECKING:
    from pathlib import Path


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    """While it is written the old content stays; afterwards the new one is there, alone."""
    target = tmp_path / "deep" / "file.txt"
    target.parent.mkdir()
    target.write_text("old")
    with atomic_write(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert [path.name for path in target.parent.iterdir()] == ["file.txt"]


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    """Also where the interruption is Ctrl-C."""
    target = tmp_path / "file.txt"
    target.write_text("old")

    def interrupted() -> None:
        with atomic_write(target) as temporary:
            temporary.write_text("ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_is_there_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    """A folder with content is never replaced; an empty one is."""
    target = tmp_path / "a" / "folder"

    def failing() -> None:
        with atomic_write(target) as temporary:
            temporary.mkdir()
            (temporary / "one").write_text("1")
            raise ValueError("half")

    with pytest.raises(ValueError, match="half"):
        failing()
    assert list(target.parent.iterdir()) == []
    for content in ("1", "2"):
        with atomic_write(target) as temporary:
            temporary.mkdir()
            (temporary / "one").write_text(content)
        assert (target / "one").read_text() == content
        if content == "1":
            (target / "one").unlink()
    with pytest.raises(OSError, match="not empty"), atomic_write(target) as temporary:
        temporary.mkdir()
    assert (target / "one").read_text() == "2"


def test_content_is_on_the_disk_before_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`fsync` comes before `rename`: after a crash the name never points to an empty file."""
    (tmp_path / "source").write_text("x")
    existed: list[bool] = []
    synced = os.fsync

    def fsync(handle: int) -> None:
        existed.append((tmp_path / "target").exists())
        synced(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    rename_durably(tmp_path / "source", tmp_path / "target")
    assert existed == [False]
    assert (tmp_path / "target").read_text() == "x"
