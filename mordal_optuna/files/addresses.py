"""Addresses of databases and folders as they are shown: without passwords, in any part."""

from __future__ import annotations

import re

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError

HIDDEN = "***"
# Keys of an address's query that drivers take secrets from, such as `password` and `sslpassword`.
_SECRET_KEY = re.compile(r"pass|pwd|secret|token|credential", re.IGNORECASE)
# What may be a password in text that is no address: all up to the last @, but a name before a
# colon. The greedy `.*` also covers a password with an unescaped @.
_MAY_BE_PASSWORD = re.compile(r"^([\w.+-]*://)?([^:/@\s]*:(?!//))?.*@", re.DOTALL)
_MAY_BE_SECRET = re.compile(
    rf"([\w.-]*(?:{_SECRET_KEY.pattern})[\w.-]*=)('[^']*'|[^&\s]*)", re.IGNORECASE
)


def shown_address(address: str) -> str:
    """An address for messages, reports and logs, with every password replaced by `***`.

    Args:
        address: address of a database, or any text that was given for one.
    """
    url = _parsed(address)
    if url is None:
        hidden = _MAY_BE_PASSWORD.sub(rf"\1\2{HIDDEN}@", address)
        return _MAY_BE_SECRET.sub(rf"\1{HIDDEN}", hidden)
    query = {key: HIDDEN if _SECRET_KEY.search(key) else value for key, value in url.query.items()}
    shown = url.set(query=query).render_as_string(hide_password=True)
    return shown.replace("=%2A%2A%2A", f"={HIDDEN}")


def shown_folder(folder: str) -> str:
    """A folder's path as it is; an fsspec address with every password replaced by `***`.

    Args:
        folder: path of a local folder, or fsspec address.
    """
    return shown_address(folder) if "://" in folder or "::" in folder else folder


def _parsed(address: str) -> sa.URL | None:
    """The parsed address; None if it is none, or if a password with @ spills into its host."""
    try:
        url = sa.make_url(address)
    except (ArgumentError, ValueError):
        return None
    return None if "@" in f"{url.host}{url.database}" else url
