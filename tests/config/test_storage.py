"""The address of the database: the study file's, or else the environment's, or else a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from mordal_optuna.config.storage import database_address

FOLDER = Path("runs/s")


@pytest.mark.parametrize(
    ("key", "variable", "expected"),
    [
        (None, None, ("sqlite:///runs/s/study.db", "storage")),
        (None, "", ("sqlite:///runs/s/study.db", "storage")),
        (None, "mysql://h/d", ("mysql://h/d", "MORDAL_STORAGE")),
        ("sqlite:///a.db", None, ("sqlite:///a.db", "storage")),
        ("sqlite:///a.db", "mysql://h/d", ("sqlite:///a.db", "storage")),
    ],
)
def test_what_the_study_file_says_takes_precedence(
    key: str | None,
    variable: str | None,
    expected: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As with Optuna's option `--storage` and its variable OPTUNA_STORAGE."""
    monkeypatch.delenv("MORDAL_STORAGE", raising=False)
    if variable is not None:
        monkeypatch.setenv("MORDAL_STORAGE", variable)
    assert database_address(key, FOLDER) == expected
