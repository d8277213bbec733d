"""Addresses of databases and folders as they are shown: without passwords, in any part."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError

from mordal_optuna.files.hidden import HIDDEN, SECRET_KEY, without_password


def shown_address(address: str) -> str:
    """An address for messages, reports and logs, with every password replaced by `***`.

    Args:
        address: address of a database, or any text that was given for one.
    """
    url = _parsed(address)
    if url is None:
        return without_password(address)
    query = {key: HIDDEN if SECRET_KEY.search(key) else value for key, value in url.query.items()}
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
