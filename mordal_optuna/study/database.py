"""Access to the study's database for rows that workers share besides trials."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from tenacity import retry, retry_if_exception, stop_after_attempt, wait_random

from mordal_optuna.errors import StoreError
from mordal_optuna.files.addresses import shown_address
from mordal_optuna.study.opening import cause_of

if TYPE_CHECKING:
    from collections.abc import Iterator

# SQLite lets one process write at a time; the others wait for so many seconds.
_SQLITE_WAIT = 60.0
# Firewalls and servers end idle connections after five minutes or more.
_RECYCLE_SECONDS = 280
# Beside the one that a process keeps; for as long as they are used.
_MORE_CONNECTIONS = 9
# A transaction takes milliseconds. One that does nothing for so long belongs to a stopped process.
_IDLE_SECONDS = 30
_LOCK_SECONDS = 60
_POSTGRESQL_LIMITS = (
    f"set idle_in_transaction_session_timeout = '{_IDLE_SECONDS}s'",
    f"set lock_timeout = '{_LOCK_SECONDS}s'",
)
# MySQL takes MariaDB's part for a comment; it has no such limit.
_MYSQL_LIMITS = (f"set @mordal = 1 /*M! , session idle_transaction_timeout = {_IDLE_SECONDS} */",)
# Statements for a new connection, by the driver's package.
_LIMITS = {
    "psycopg": _POSTGRESQL_LIMITS,
    "psycopg2": _POSTGRESQL_LIMITS,
    "pymysql": _MYSQL_LIMITS,
    "MySQLdb": _MYSQL_LIMITS,
}
_LIBPQ = {
    "connect_timeout": 10,
    "keepalives": 1,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,  # milliseconds
}
# Reading all trials of a large study takes seconds, and a lock is waited for up to 50 seconds.
_MYSQL = {"connect_timeout": 10, "read_timeout": 120, "write_timeout": 120}
# Arguments of connections, by driver.
_CONNECTING: dict[str, dict[str, int]] = {
    "psycopg": _LIBPQ,
    "psycopg2": _LIBPQ,
    "pymysql": _MYSQL,
    "mysqldb": _MYSQL,
}
# Engines of this process that are in use: connections belong to the process, and each engine would
# keep connections of its own.
_engines: WeakValueDictionary[tuple[int, str], sa.Engine] = WeakValueDictionary()
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
    """Keyword arguments of SQLAlchemy's engine for many processes that idle for hours.

    A connection is tested before it is used, and replaced after some minutes. A server that does
    not answer is given up after a time, so that work is retried instead of hanging. A process
    keeps one connection, since a server allows about 100 in all; its threads open more for as
    long as they use them. Parameters that the address sets itself stay.

    Args:
        address: SQLAlchemy address of the database.
    """
    url = sa.make_url(address)
    if url.get_backend_name() == "sqlite":
        return {"pool_pre_ping": True, "connect_args": {"timeout": _SQLITE_WAIT}}
    given = _CONNECTING.get(url.get_driver_name(), {})
    return {
        "pool_pre_ping": True,
        "pool_recycle": _RECYCLE_SECONDS,
        "pool_size": 1,
        "max_overflow": _MORE_CONNECTIONS,
        "pool_use_lifo": True,
        "pool_events": [(_set_limits, "connect")],
        "connect_args": {key: value for key, value in given.items() if key not in url.query},
    }


def shared_engine(address: str) -> sa.Engine:
    """This process's engine of a database; it is closed when nothing uses it any more.

    Args:
        address: SQLAlchemy address of the database.
    """
    key = (os.getpid(), address)  # a forked process must not use its parent's connections
    engine = _engines.get(key)
    if engine is None:
        engine = _engines[key] = sa.create_engine(address, **engine_options(address))
    return engine


def share_engine(address: str, engine: sa.Engine) -> None:
    """Use an engine for everything else that this process does in a database.

    Args:
        address: SQLAlchemy address of the database.
        engine: engine that was made with `engine_options`.
    """
    _engines[os.getpid(), address] = engine


def _set_limits(connection: Any, _: object) -> None:
    """Let the server end what a stopped process holds: its locks would stop all workers.

    Set by statements and not when connecting, since connection poolers refuse options there.
    """
    statements = _LIMITS.get(type(connection).__module__.partition(".")[0])
    if not statements:
        return
    cursor = connection.cursor()
    for statement in statements:
        cursor.execute(statement)
    cursor.close()
    connection.commit()


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
    engine = shared_engine(address)
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
        address = engine.url.render_as_string(hide_password=False)
        cause = cause_of(error, address)
        kind = type(getattr(error, "orig", None) or error).__name__
        # The cause is not chained: its text may contain the password.
        reason = f"{kind}: {cause.reason}" if cause else kind
        mend = cause is not None and not cause.passing
        raise StoreError(shown_address(address), reason, mend=mend) from None


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
