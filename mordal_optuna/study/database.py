"""Access to the study's database for rows that workers share besides trials."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from tenacity import retry, retry_if_exception, stop_after_attempt, wait_random

from mordal_optuna.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

# SQLite lets one process write at a time; the others wait for so many seconds.
_SQLITE_WAIT = 60.0
# In a deadlock the database aborts one of the writes, which is then retried.
_ATTEMPTS = 20


class Name(sa.TypeDecorator[str]):
    """A name; on every database, case, accents and trailing spaces distinguish names."""

    impl = sa.String
    cache_ok = True

    def __init__(self, length: int) -> None:
        """Set the longest name, in characters."""
        super().__init__(length)
        self.length = length

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        """The dialect's string type; MySQL and MariaDB need a binary collation without padding."""
        collation = None
        if dialect.name in ("mysql", "mariadb"):
            maria = getattr(dialect, "is_mariadb", False)
            collation = "utf8mb4_nopad_bin" if maria else "utf8mb4_0900_bin"
        return dialect.type_descriptor(sa.String(self.length, collation=collation))


class Now(FunctionElement[float]):
    """Seconds since 1970 by the database's clock, with fractions, independent of time zones."""

    type = sa.Double()
    inherit_cache = True


@compiles(Now, "sqlite")
def _sqlite_now(*_: Any, **__: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(Now, "postgresql")
def _postgresql_now(*_: Any, **__: Any) -> str:
    return "extract(epoch from clock_timestamp())"


@compiles(Now, "mysql")
@compiles(Now, "mariadb")
def _mysql_now(*_: Any, **__: Any) -> str:
    # `unix_timestamp` reads local time, in which an hour repeats when clocks are set back.
    return "(timestampdiff(microsecond, '1970-01-01', utc_timestamp(6)) / 1e6)"


def engine_options(address: str) -> dict[str, Any]:
    """Keyword arguments of SQLAlchemy's engine for many processes.

    Args:
        address: SQLAlchemy address of the database.
    """
    sqlite = sa.make_url(address).get_backend_name() == "sqlite"
    wait = {"connect_args": {"timeout": _SQLITE_WAIT}} if sqlite else {}
    return {"pool_pre_ping": True, **wait}


def open_table(address: str, table: sa.Table) -> sa.Engine:
    """Connect to a database and create a table if it does not exist.

    Args:
        address: SQLAlchemy address of the database.
        table: table to create.

    Returns:
        The engine.

    Raises:
        StoreError: if the database cannot be used.
    """
    engine = sa.create_engine(address, **engine_options(address))
    with store_errors(engine):
        try:
            table.create(engine, checkfirst=True)
        except (sa.exc.OperationalError, sa.exc.ProgrammingError, IntegrityError):
            # Of two workers that create it at the same moment, one gets this error.
            if not sa.inspect(engine).has_table(table.name):
                raise
    return engine


def add(engine: sa.Engine, row: sa.Insert) -> bool:
    """Insert a row; False if a row of the same key exists.

    Raises:
        StoreError: if the database cannot be used.
    """
    with store_errors(engine):
        try:
            _in_transaction(engine, row)
        except IntegrityError:
            return False
    return True


def write(engine: sa.Engine, statement: sa.Update | sa.Delete) -> int:
    """Update or delete rows, and return how many matched.

    Raises:
        StoreError: if the database cannot be used.
    """
    with store_errors(engine):
        return _in_transaction(engine, statement)


@contextmanager
def store_errors(engine: sa.Engine) -> Iterator[None]:
    """Turn database errors into one that names the address without its password.

    Raises:
        StoreError: for any of SQLAlchemy's errors.
    """
    try:
        yield
    except SQLAlchemyError as error:
        address = engine.url.render_as_string(hide_password=True)
        kind = type(getattr(error, "orig", None) or error).__name__
        # The cause is not chained: its text may contain the password.
        raise StoreError(address, kind) from None


def _is_deadlock(error: BaseException) -> bool:
    cause = error.orig if isinstance(error, DBAPIError) else None
    if cause is None:
        return False
    postgresql, mysql = getattr(cause, "sqlstate", None) == "40P01", cause.args[:1] == (1213,)
    return postgresql or mysql


@retry(
    retry=retry_if_exception(_is_deadlock),
    stop=stop_after_attempt(_ATTEMPTS),
    wait=wait_random(0.0, 0.05),
    reraise=True,
)
def _in_transaction(engine: sa.Engine, statement: sa.UpdateBase) -> int:
    """Run one statement in its own transaction; retried after a deadlock."""
    with engine.begin() as connection:
        return connection.execute(statement).rowcount
