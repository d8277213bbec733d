"""No part of a password is shown, whatever characters it has."""

from __future__ import annotations

import pytest

from mordal_optuna.files.hidden import without_password


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("sftp://me:secret@host/x", "sftp://me:***@host/x"),
        ("sftp://me:a@secret@host/x", "sftp://me:***@host/x"),
        ("sftp://me:a/secret@host/x", "sftp://me:***@host/x"),
        ("s3://bucket/folder", "s3://bucket/folder"),
        ("s3://bucket?token=secret&a=1", "s3://bucket?token=***&a=1"),
        ("runs/my-study", "runs/my-study"),
    ],
)
def test_passwords_are_hidden(address: str, shown: str) -> None:
    assert without_password(address) == shown
