"""A database that cannot be opened is one sentence, with what to do and without the password.

Each fault is real, and met through the command line.
"""

from __future__ import annotations

import builtins
import gc
import getpass
import sqlite3
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import optuna
import pytest
import sqlalchemy as sa

from mordal_optuna.errors import ConfigError, UnreachableStorageError
from mordal_optuna.study.claims import study_storage
from mordal_optuna.study.opening import cause_of, opening
from tests.cli.calls import call, study_file
from tests.databases import free_port, new_database

if TYPE_CHECKING:
    from pathlib import Path

    from tests.databases import PostgresqlServer

SECRET = "s3cret-Wort"
PG = "postgresql+psycopg"
MY = "mysql+pymysql"


def refusal(
    address: str, folder: Path, capsys: pytest.CaptureFixture[str], *, status: int = 2
) -> str:
    """What `mordal run` prints, which must be one line without a password."""
    file = study_file(folder)
    file.write_text(file.read_text() + f"storage: {address!r}\n")
    found, shown = call("run", str(file), capsys=capsys)
    assert shown.count("\n") == 1, shown
    assert SECRET not in shown
    assert "p0stgres-Secret" not in shown
    assert found == status
    return shown


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("nonsense", "'nonsense'; it is no address of a database"),
        (f"me:{SECRET}@host/db", r"'me:***@host/db'; it is no address of a database"),
        (f"{PG}://me:{SECRET}@localhost:abc/db", "localhost:abc/db'; its port is no number"),
        (f"oracel://me:{SECRET}@localhost/db", "'oracel' is no kind of database"),
        (f"{PG}://me:{SECRET}@nowhere.invalid/db", "'nowhere.invalid' is not known"),
        (f"{MY}://me:{SECRET}@nowhere.invalid/db", "'nowhere.invalid' is not known"),
        (f"{PG}://me:{SECRET}@127.0.0.1:PORT/db", "nothing listens at '127.0.0.1', port PORT"),
        (f"{MY}://me:{SECRET}@127.0.0.1:PORT/db", "nothing listens at '127.0.0.1', port PORT"),
        (f"{PG}://127.0.0.1:PORT/db?user=me&password={SECRET}", "password=***"),
        ("sqlite:////no/such/folder/study.db", "its folder must exist"),
    ],
)
def test_an_address_that_leads_nowhere(
    address: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = str(free_port())
    # A server that is away may come back, and so may the name of a host.
    status = 75 if "PORT" in address or "invalid" in address else 2
    shown = refusal(address.replace("PORT", port), tmp_path, capsys, status=status)
    assert shown.startswith("mordal: storage: ")
    assert words.replace("PORT", port) in shown


def test_postgresql_with_a_wrong_password_or_database(
    password_postgresql: PostgresqlServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = password_postgresql.address(password=SECRET)
    assert "refuses user 'postgres' with this password" in refusal(wrong, tmp_path, capsys)
    none = password_postgresql.address("no_such_db")
    assert "the server has no database 'no_such_db'" in refusal(none, tmp_path, capsys)


def test_mariadb_with_a_wrong_password_or_database(
    mariadb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = sa.make_url(mariadb)
    wrong = url.set(password=SECRET).render_as_string(hide_password=False)
    assert "refuses user 'root' with this password" in refusal(wrong, tmp_path, capsys)
    none = url.set(database="no_such_db").render_as_string(hide_password=False)
    assert "the server has no database 'no_such_db'" in refusal(none, tmp_path, capsys)


def reader_of(address: str) -> str:
    """A user who may read the tables of a database, and nothing else."""
    url, engine = sa.make_url(address), sa.create_engine(address)
    name = "r" + str(url.database)[:20]
    if url.get_backend_name() == "postgresql":
        grants = [
            f"create user {name} password '{SECRET}'",
            f"grant select on all tables in schema public to {name}",
        ]
    else:
        grants = [
            f"create user {name}@'%%' identified by '{SECRET}'",
            f"create user {name}@localhost identified by '{SECRET}'",
            f"grant select on {url.database}.* to {name}@'%%'",
            f"grant select on {url.database}.* to {name}@localhost",
        ]
    with engine.begin() as connection:
        for grant in grants:
            connection.exec_driver_sql(grant)
    return url.set(username=name, password=SECRET).render_as_string(hide_password=False)


@pytest.mark.parametrize("with_tables", [False, True])
@pytest.mark.parametrize("server", ["postgresql", "mariadb"])
def test_a_user_who_may_only_read(
    server: str,
    with_tables: bool,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    address = new_database(request.getfixturevalue(server))
    if with_tables:
        study_storage(address)
    shown = refusal(reader_of(address), tmp_path, capsys)
    assert "it may only be read; a study needs the right to create and write tables" in shown


def test_a_file_that_may_only_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Root may write every file, so SQLite itself opens it for reading alone."""
    address = f"sqlite:///{tmp_path}/study.db"
    study_storage(address)
    if getpass.getuser() == "root":
        address = f"sqlite:///file:{tmp_path}/study.db?mode=ro&uri=true"
    else:
        (tmp_path / "study.db").chmod(0o444)
    shown = refusal(address, tmp_path, capsys)
    assert "it may only be read" in shown


@pytest.mark.parametrize("damage", ["text", "cut"])
def test_a_damaged_file(damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "study.db"
    study_storage(f"sqlite:///{file}")
    content = file.read_bytes()
    file.write_bytes(b"no database " * 999 if damage == "text" else content[: len(content) // 2])
    shown = refusal(f"sqlite:///{file}", tmp_path, capsys)
    assert "the file is damaged or is no SQLite database" in shown


@pytest.mark.parametrize(
    ("revision", "words"),
    [("v3.0.0.d", "optuna storage upgrade --storage URL"), ("1a2b3c", "or another program made")],
)
def test_tables_of_another_version(
    revision: str, words: str, database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study_storage(database)
    gc.collect()  # a storage that is in use is not checked again
    with sa.create_engine(database).begin() as connection:
        connection.execute(sa.text("update alembic_version set version_num = :v"), {"v": revision})
    assert words in refusal(database, tmp_path, capsys)


def test_tables_of_another_program(
    database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A table `studies` that is not Optuna's."""
    with sa.create_engine(database).begin() as connection:
        connection.execute(sa.text("create table studies (study_id integer primary key, x text)"))
    shown = refusal(database, tmp_path, capsys)
    assert "its tables are not those of Optuna" in shown


@pytest.mark.parametrize(
    ("address", "package", "extra"),
    [
        (f"{PG}://me:{SECRET}@localhost/db", "psycopg", "postgresql"),
        (f"{MY}://me:{SECRET}@localhost/db", "pymysql", "mysql"),
    ],
)
def test_a_missing_driver(
    address: str,
    package: str,
    extra: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **named: Any) -> Any:
        if name == package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    shown = refusal(address, tmp_path, capsys)
    assert f"{package!r}, is not installed; pip install 'mordal-optuna[{extra}]'" in shown


def test_the_variable_is_named_where_the_address_comes_from_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MORDAL_STORAGE", f"{PG}://me:{SECRET}@nowhere.invalid/db")
    _, shown = call("retry", str(study_file(tmp_path)), capsys=capsys)
    assert shown.startswith(f"mordal: MORDAL_STORAGE: '{PG}://me:***@nowhere.invalid/db' cannot")


@pytest.mark.parametrize("written", ["a{b", "{SCHEMA_VERSION}", "100%25", "a%40b%2Fc"])
def test_a_password_may_have_any_character(
    written: str, password_postgresql: PostgresqlServer
) -> None:
    """Optuna fills in its schema's version where an address has braces."""
    user = "u" + written.encode().hex()
    engine = sa.create_engine(password_postgresql.address())
    with engine.begin() as connection:
        password = unquote(written).replace("%", "%%")
        connection.exec_driver_sql(f"create user {user} superuser password '{password}'")
    plain = password_postgresql.address()
    address = plain.replace("postgres:p0stgres-Secret", f"{user}:{written}")
    assert optuna.get_all_study_names(study_storage(address)) == []


def test_a_cause_that_may_pass_has_a_class_of_its_own() -> None:
    address = f"{PG}://me:x@127.0.0.1:{free_port()}/db"
    with pytest.raises(UnreachableStorageError), opening(address):
        study_storage(address)
    with pytest.raises(ConfigError) as caught, opening("nonsense"):
        pass
    assert not isinstance(caught.value, UnreachableStorageError)


def test_an_unknown_error_has_no_cause() -> None:
    assert cause_of(sqlite3.OperationalError("something new"), "sqlite:///x") is None


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="mine"), opening("sqlite://"):
        raise RuntimeError("mine")
