"""The study's database, for what workers share there besides trials."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from mordal_optuna.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

# SQLite lets one process write at a time; the others wait for it this long.
_SQLITE_WAIT = 60.0


def engine_options(address: str) -> dict[str, Any]:
    """Arguments of SQLAlchemy's engine that suit many processes."""
    sqlite = sa.make_url(address).get_backend_name() == "sqlite"
    wait = {"connect_args": {"timeout": _SQLITE_WAIT}} if sqlite else {}
    return {"pool_pre_ping": True, **wait}


def open_table(address: str, table: sa.Table) -> sa.Engine:
    """An engine whose database has a table; it is created if it is not there.

    Raises:
        StoreError: if the database cannot be used.
    """
    engine = sa.create_engine(address, **engine_options(address))
    with store_errors(engine):
        try:
            table.create(engine, checkfirst=True)
        except (sa.exc.OperationalError, sa.exc.ProgrammingError, IntegrityError):
            # Two workers that create it at the same moment: one is told it exists.
            if not sa.inspect(engine).has_table(table.name):
                raise
    return engine


@contextmanager
def store_errors(engine: sa.Engine) -> Iterator[None]:
    """Tell of database errors by address, without the password.

    Raises:
        StoreError: for any of SQLAlchemy's errors.
    """
    try:
        yield
    except SQLAlchemyError as error:
        address = engine.url.render_as_string(hide_password=True)
        kind = type(getattr(error, "orig", None) or error).__name__
        # The cause is not chained: its text can hold the password.
        raise StoreError(address, kind) from None
