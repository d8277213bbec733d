"""Leases survive outages and report their loss; one process at a time runs a study."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from mordal_optuna.errors import BusyError, LeaseLostError, SearchError, StoreError
from mordal_optuna.study.database import Name
from mordal_optuna.study.ownership import Lease, LeaseRows, alone_on
from tests.databases import new_database

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TABLE = sa.Table(
    "t",
    sa.MetaData(),
    sa.Column("name", Name(255), primary_key=True),
    sa.Column("owner", Name(255), nullable=False),
    sa.Column("expires", sa.Double, nullable=False),
)


class Outage(LeaseRows):
    """Rows whose database is away for one owner until a given time."""

    until = 0.0

    def renew(self, **key: str) -> bool:
        """As ever, or not at all."""
        if time.monotonic() < self.until:
            raise StoreError("sqlite://", "OperationalError")
        return super().renew(**key)


@pytest.fixture
def rows(tmp_path: Path) -> Callable[[float], Outage]:
    """A function that opens the rows for another owner."""
    return lambda seconds: Outage(f"sqlite:///{tmp_path / 'x.db'}", TABLE, lease_seconds=seconds)


def lease_of(rows: LeaseRows, wait_seconds: float = 60.0) -> Lease:
    assert rows.acquire(name="a")
    return Lease(rows, {"name": "a"}, "a + b", wait_seconds=wait_seconds)


def test_an_outage_is_waited_out(rows: Callable[[float], Outage]) -> None:
    """For longer than the lease; the work under it may have taken hours."""
    mine = rows(0.3)
    lease = lease_of(mine)
    mine.until = time.monotonic() + 0.7
    lease.check()
    assert time.monotonic() >= mine.until


def test_a_longer_outage_is_reported(rows: Callable[[float], Outage]) -> None:
    mine = rows(0.6)
    lease = lease_of(mine, wait_seconds=0.6)
    mine.until, start = time.monotonic() + 60, time.monotonic()
    with pytest.raises(StoreError):
        lease.check()
    assert 0.6 <= time.monotonic() - start < 10


def test_an_expired_row_is_watched_before_it_is_taken(tmp_path: Path) -> None:
    """After an outage of the database all leases have expired; those who live renew them."""
    address = f"sqlite:///{tmp_path / 'x.db'}"
    lives, other = (
        LeaseRows(address, TABLE, lease_seconds=0.2, grace_seconds=grace) for grace in (0.0, 0.5)
    )
    assert lives.acquire(name="a")
    time.sleep(0.3)
    assert other.remove_abandoned() == []
    assert lives.renew(name="a")
    time.sleep(0.6)
    assert other.remove_abandoned() == []  # another lease has expired now: watched anew
    time.sleep(0.6)
    assert [row.name for row in other.remove_abandoned()] == ["a"]


def test_an_owner_that_took_the_row_in_an_outage_keeps_it(rows: Callable[[float], Outage]) -> None:
    mine, other = rows(0.3), rows(60.0)
    lease = lease_of(mine)
    lease.start()
    mine.until = time.monotonic() + 60
    while not other.remove_abandoned():
        time.sleep(0.05)
    assert other.acquire(name="a")
    mine.until = 0.0
    with pytest.raises(LeaseLostError, match=r"a \+ b"):
        lease.check()
    lease.stop()
    mine.release(name="a")
    assert len(other.rows(name="a")) == 1


def test_the_renewing_thread_survives_an_outage(rows: Callable[[float], Outage]) -> None:
    mine, other = rows(0.6), rows(0.6)
    lease = lease_of(mine)
    lease.start()
    mine.until = time.monotonic() + 0.3
    time.sleep(0.9)
    assert other.remove_abandoned() == []
    assert lease.failure is None
    lease.stop()


def test_the_renewing_thread_notices_a_loss(rows: Callable[[float], Outage]) -> None:
    """Without a call of `check`."""
    mine = rows(0.6)
    lease = lease_of(mine)
    lease.start()
    assert lease.failure is None
    with mine.engine.begin() as connection:
        connection.execute(sa.delete(TABLE))
    give_up = time.monotonic() + 10
    while lease.failure is None and time.monotonic() < give_up:
        time.sleep(0.02)
    assert isinstance(lease.failure, LeaseLostError)
    lease.stop()


def test_one_process_at_a_time_runs_a_study(database: str) -> None:
    refused = pytest.raises(BusyError, match="another process works on study 's' in '")
    with alone_on(database, "s"), alone_on(database, "S"), refused:
        alone_on(database, "s").__enter__()
    with alone_on(database, "s"):
        pass


def test_a_run_outlasts_its_lease(database: str) -> None:
    with alone_on(database, "s", lease_seconds=0.6):
        time.sleep(0.9)
        with pytest.raises(BusyError):
            alone_on(database, "s").__enter__()


def test_the_run_of_a_killed_local_process_ends_at_once(database: str) -> None:
    code = (
        "import os; from mordal_optuna.study.ownership import alone_on; "
        f"run = alone_on({database!r}, 's', lease_seconds=3600); run.__enter__(); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    with alone_on(database, "s"):
        pass


def test_the_run_of_a_process_elsewhere_ends_with_its_lease(database: str) -> None:
    with alone_on(database, "s"):
        pass
    engine = sa.create_engine(database)

    def leave_behind(expires: float) -> None:
        insert = sa.text("insert into mordal_runs values ('s', 'elsewhere/1/a', :expires)")
        with engine.begin() as connection:
            connection.execute(insert, {"expires": expires})

    leave_behind(time.time() + 30)
    with pytest.raises(BusyError):
        alone_on(database, "s").__enter__()
    with engine.begin() as connection:
        connection.execute(sa.text("delete from mordal_runs"))
    leave_behind(time.time() - 30)
    with alone_on(database, "s"):
        pass


def test_the_database_is_named_without_its_password(mariadb: str) -> None:
    address = new_database(mariadb)
    with sa.create_engine(address).begin() as connection:
        connection.execute(sa.text("create or replace user me@localhost identified by 'secret'"))
        connection.execute(sa.text("grant all on *.* to me@localhost"))
    mine = sa.make_url(address).set(username="me", password="secret")
    address = mine.render_as_string(hide_password=False)
    with alone_on(address, "s"), pytest.raises(BusyError, match=r"me:\*\*\*@localhost") as caught:
        alone_on(address, "s").__enter__()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan")])
def test_a_lease_without_a_length_is_refused(seconds: float) -> None:
    with pytest.raises(SearchError, match=f"lease_seconds: got {seconds}; it must be above 0"):
        alone_on("sqlite://", "s", lease_seconds=seconds).__enter__()
