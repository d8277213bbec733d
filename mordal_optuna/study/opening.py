"""What is wrong with a database that cannot be opened, and what a person can do: one sentence.

Drivers name a cause by a code or only by a text. The text is compared with known ones and never
shown, since it may contain the password.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from mordal_optuna.errors import ConfigError, MordalError, UnreachableStorageError
from mordal_optuna.files.addresses import shown_address
from mordal_optuna.files.hidden import HIDDEN

if TYPE_CHECKING:
    from collections.abc import Iterator

_FORM = (
    "it must be an SQLAlchemy URL, such as sqlite:///FOLDER/study.db or "
    "postgresql+psycopg://USER:PASSWORD@HOST:5432/DATABASE"
)
_UNKNOWN = (
    "the cause is not known here; it must be a database of its own for studies, which you may "
    "write to"
)
# A password with one of these spills into the host, or cuts the address.
_ESCAPE = (
    "its user or password has an unescaped character; write '@' as %40, '/' as %2F and ':' as %3A"
)
# Extra of this package that installs the driver, by kind of database.
_EXTRAS = {"postgresql": "postgresql", "mysql": "mysql", "mariadb": "mysql"}


@dataclass(frozen=True)
class Cause:
    """A known cause.

    Attributes:
        pattern: regular expression that is looked for in the driver's text, code first.
        reason: what is wrong and what to do; `{user}`, `{host}`, `{port}` and `{database}` are
            those of the address.
        passing: whether the cause may pass by itself, such as a server that starts.
    """

    pattern: str
    reason: str
    passing: bool = False


# In this order: a more special text first.
_CAUSES = (
    Cause(
        r"password authentication failed|no password supplied|\b1045\b|\b1698\b"
        r"|authentication failed|role .* does not exist|no pg_hba\.conf entry|\b28000\b",
        "the server refuses user {user!r} with this password; correct user and password",
    ),
    Cause(
        r"database .* does not exist|\b1049\b|\b3D000\b",
        "the server has no database {database!r}; create it, or correct its name",
    ),
    Cause(
        r"translate host name|resolve host|name or service not known|name resolution"
        r"|nodename nor servname|no address associated",
        "the host {host!r} is not known; correct its name",
        passing=True,
    ),
    Cause(
        r"connection refused|is the server running|errno 111|can't connect to",
        "nothing listens at {host!r}, port {port}; start the server, or correct host and port",
        passing=True,
    ),
    Cause(
        r"timed? ?out|timeout expired|no route to host|network is unreachable",
        "the server at {host!r} does not answer; correct the address, or its firewall",
        passing=True,
    ),
    Cause(
        r"starting up|shutting down|in recovery|too many (clients|connections)|\b1040\b|\b53300\b"
        r"|server closed the connection|lost connection|terminating connection"
        r"|connection slots are reserved",
        "the server takes no connections at present; try again",
        passing=True,
    ),
    Cause(
        r"read-?only|permission denied|insufficient ?privilege|command denied|access denied"
        r"|\b(1036|1044|1142|1227|1290|42501|25006)\b",
        "it may only be read; a study needs the right to create and write tables",
    ),
    Cause(
        r"unable to open database file",
        "the file cannot be opened; its folder must exist, and you must be allowed to write there",
    ),
    Cause(
        r"not a database|malformed|file is encrypted",
        "the file is damaged or is no SQLite database; restore it, or name another file",
    ),
    Cause(r"database is locked", "another process keeps it locked; try again", passing=True),
    Cause(
        r"optuna storage upgrade",
        "an older Optuna made its tables; upgrade them by `optuna storage upgrade --storage URL`, "
        "or name another database",
    ),
    Cause(
        r"updating optuna to the latest",
        "its table alembic_version is not of this Optuna: a newer Optuna or another program made "
        "it; update Optuna, or name a database of its own for studies",
    ),
    Cause(
        r"no such column|has no column|unknown column|undefined ?column|no such table"
        r"|undefined ?table|column .* does not exist|relation .* does not exist"
        r"|\b(1054|1146|42703|42P01)\b",
        "its tables are not those of Optuna; name a database of its own for studies",
    ),
)


@contextmanager
def opening(address: str, *, key: str = "storage") -> Iterator[None]:
    """Turn errors of a database that is opened into one sentence without its password.

    Args:
        address: address of the database.
        key: where the address was given, which begins the sentence.

    Raises:
        UnreachableStorageError: if the cause may pass by itself.
        ConfigError: if a person must mend it.
    """
    try:
        check_address(address, key=key)
        yield
    except MordalError:
        raise
    except (SQLAlchemyError, StorageInternalError, ImportError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "table schema" not in str(error):
            raise
        cause = cause_of(error, address)
        sentence = f"{key}: {shown_address(address)!r} cannot be used ({_kind(error)}): "
        if cause and cause.passing:
            raise UnreachableStorageError([sentence + cause.reason]) from None
        reason = cause.reason if cause else _UNKNOWN
        raise ConfigError([sentence + reason]) from None  # the cause's text can hold the password


def check_address(address: str, *, key: str = "storage") -> None:
    """Check the form of an address.

    Args:
        address: address of a database.
        key: where it was given.

    Raises:
        ConfigError: if it is no address, names no known kind of database, has a port that is no
            number, or a password with an unescaped @.
    """
    try:
        url = sa.make_url(address)
        url.get_dialect()
    except NoSuchModuleError:
        problem = (
            f"{key}: got {shown_address(address)!r}; {url.drivername!r} is no kind of database "
            f"that is installed here; {_FORM}"
        )
    except (ArgumentError, ValueError) as error:
        port = isinstance(error, ValueError)
        wrong = "its port is no number" if port else "it is no address of a database"
        problem = f"{key}: got {shown_address(address)!r}; {wrong}; {_FORM}"
    except ImportError as error:
        problem = f"{key}: {shown_address(address)!r} cannot be used ({_kind(error)}): " + (
            _driver_missing(url, error)
        )
    else:
        if "@" not in (url.host or ""):
            return
        problem = f"{key}: got {shown_address(address)!r}; {_ESCAPE}"
    raise ConfigError([problem]) from None


def cause_of(error: BaseException, address: str) -> Cause | None:
    """The known cause of a database's error, with the address's parts filled in; None if unknown.

    Args:
        error: error of SQLAlchemy, Optuna or a driver.
        address: address of the database.
    """
    url = sa.make_url(address)
    if isinstance(error, ImportError):
        return Cause("", _driver_missing(url, error))
    text = _driver_text(error)
    cause = next((c for c in _CAUSES if re.search(c.pattern, text, re.IGNORECASE)), None)
    if cause is None:
        return None
    defaults = {"postgresql": 5432, "mysql": 3306, "mariadb": 3306}
    host = url.host or url.query.get("host") or url.query.get("unix_socket") or "localhost"
    spilled = "@" in f"{url.host}{url.database}"  # what looks like a host may be of a password
    parts: dict[str, object] = {
        "user": url.username or "",
        "host": HIDDEN if spilled else host,
        "port": url.port or defaults.get(url.get_backend_name()) or "",
        "database": HIDDEN if spilled else url.database or "",
    }
    reason = cause.reason.format(**parts) + (f"; or {_ESCAPE}" if spilled else "")
    return Cause(cause.pattern, reason, cause.passing and not spilled)


def _driver_missing(url: sa.URL, error: ImportError) -> str:
    extra = _EXTRAS.get(url.get_backend_name())
    package = getattr(error, "name", None) or url.get_driver_name()
    advice = f"pip install 'mordal-optuna[{extra}]'" if extra else f"install {package!r}"
    return f"its driver, the Python package {package!r}, is not installed; {advice}"


def _driver_text(error: BaseException) -> str:
    """Codes and texts of an error and of those that it wraps."""
    texts: list[str] = []
    link: BaseException | None = error
    while link is not None and len(texts) < 8:
        texts += [str(getattr(link, "sqlstate", "") or ""), type(link).__name__, str(link)]
        link = getattr(link, "orig", None) or link.__cause__
    return "\n".join(texts)


def _kind(error: BaseException) -> str:
    """The class of the driver's error."""
    wrapped = error.__cause__ if isinstance(error, StorageInternalError) else None
    inner = wrapped or error
    return type(getattr(inner, "orig", None) or inner).__name__
