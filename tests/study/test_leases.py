"""Leases: an outage is waited out, a loss is noticed, whoever finds it out first."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from mordal_optuna.errors import LeaseLostError, StoreError
from mordal_optuna.study.database import Name
from mordal_optuna.study.leases import Lease, LeaseRows

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
    """Rows of a database that goes away, for one owner, until told otherwise."""

    until = 0.0

    def renew(self, **key: str) -> bool:
        """As ever, or not at all."""
        if time.monotonic() < self.until:
            raise StoreError("sqlite://", "OperationalError")
        return super().renew(**key)


@pytest.fixture
def rows(tmp_path: Path) -> Callable[[float], Outage]:
    """Each call gives another owner."""
    return lambda seconds: Outage(f"sqlite:///{tmp_path / 'x.db'}", TABLE, lease_seconds=seconds)


def lease_of(rows: LeaseRows) -> Lease:
    assert rows.acquire(name="a")
    return Lease(rows, {"name": "a"}, "a + b")


def test_an_outage_is_waited_out(rows: Callable[[float], Outage]) -> None:
    """For as long as a lease; what was done under it may have taken hours."""
    mine = rows(3.0)
    lease = lease_of(mine)
    mine.until = time.monotonic() + 0.7
    lease.check()
    assert time.monotonic() >= mine.until


def test_a_longer_outage_is_told(rows: Callable[[float], Outage]) -> None:
    mine = rows(0.6)
    lease = lease_of(mine)
    mine.until, start = time.monotonic() + 60, time.monotonic()
    with pytest.raises(StoreError):
        lease.check()
    assert 0.6 <= time.monotonic() - start < 10


def test_who_was_given_the_row_in_an_outage_keeps_it(rows: Callable[[float], Outage]) -> None:
    mine, other = rows(0.3), rows(60.0)
    lease = lease_of(mine)
    lease.start()
    mine.until = time.monotonic() + 60
    while not other.clear():
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
    assert other.clear() == []
    assert lease.failure is None
    lease.stop()


def test_the_renewing_thread_notices_a_loss(rows: Callable[[float], Outage]) -> None:
    """Nobody has to ask the database for it."""
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
