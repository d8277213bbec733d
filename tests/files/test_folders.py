"""A folder is made, and refused in one sentence where that is impossible."""

from __future__ import annotations

import errno
import tempfile
from typing import TYPE_CHECKING

import pytest

from mordal_optuna.errors import ConfigError
from mordal_optuna.files.folders import make_folder

if TYPE_CHECKING:
    from pathlib import Path


def test_a_folder_is_made_with_its_parents_and_may_exist(tmp_path: Path) -> None:
    for _ in range(2):
        make_folder(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    for folder in (tmp_path / "a", tmp_path / "a" / "b"):
        with pytest.raises(ConfigError, match=f"^--scratch: '{folder}' cannot be made"):
            make_folder(folder, "--scratch")


@pytest.mark.parametrize(
    ("code", "kind"),
    [(errno.EROFS, ConfigError), (errno.EACCES, ConfigError), (errno.ENOSPC, OSError)],
)
def test_a_full_disk_is_no_bad_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[Exception]
) -> None:
    """It may pass, and is waited for or reported as an outage; missing rights do not pass."""

    def refuse(**_: object) -> None:
        raise OSError(code, "no")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(kind):
        make_folder(tmp_path)
