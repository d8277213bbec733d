"""An address is shown without passwords, wherever they are in it, even if it is malformed."""

from __future__ import annotations

import pytest

from mordal_optuna.files.addresses import shown_address, shown_folder


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("sqlite:///runs/study.db", "sqlite:///runs/study.db"),
        ("postgresql://me:sEcret@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:sEc@ret@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:sEc/ret@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:sEcret@host:abc/db", "postgresql://me:***@host:abc/db"),
        ("postgresql://:sEcret@host/db", "postgresql://:***@host/db"),
        ("me:sEcret@host/db", "me:***@host/db"),
        ("me:sEc@r:et@host/db", "me:***@host/db"),
        ("sEcret@host", "***@host"),
        ("https://sEcret@host:x/db", "https://***@host:x/db"),
        ("postgresql://host/db?user=me&password=sEcret", None),
        ("postgresql://me@host/db?sslmode=require&sslpassword=sEcret", None),
        ("mysql://host/db?passwd=sEcret", None),
        ("host:x/db?password=sEcret", "host:x/db?password=***"),
        ("host=h password=sEcret dbname=d", "host=h password=*** dbname=d"),
        ("host=h password='sEc ret' dbname=d", "host=h password=*** dbname=d"),
        ("", ""),
    ],
)
def test_no_password_is_shown(address: str, shown: str | None) -> None:
    found = shown_address(address)
    assert "sEc" not in found
    assert "ret" not in found
    assert "***" in found or "sEc" not in address
    assert shown is None or found == shown


@pytest.mark.parametrize(
    ("folder", "shown"),
    [
        ("/data/me@work/a b", "/data/me@work/a b"),
        ("runs/x", "runs/x"),
        ("s3://bucket/mordal", "s3://bucket/mordal"),
        ("sftp://me:sEcret@host/mordal", "sftp://me:***@host/mordal"),
        ("s3://bucket/mordal?token=sEcret", "s3://bucket/mordal?token=***"),
        ("simplecache::sftp://me:sEcret@host/mordal", "simplecache:***@host/mordal"),
    ],
)
def test_an_address_of_a_folder_is_shown_without_passwords(folder: str, shown: str) -> None:
    """A path is shown as it is, since it has none."""
    assert shown_folder(folder) == shown
