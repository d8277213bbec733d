"""Leases: rows of the study's database that their owner renews for as long as it lives.

An owner that dies stops renewing. Its row counts as left behind once the lease is over, or at once
where its process is known to have ended. Times are the database's own, so the clocks of several
machines need not agree.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from mordal_optuna.errors import LeaseLostError, StoreError
from mordal_optuna.processes.liveness import has_ended, owner_name
from mordal_optuna.study.database import Now, add, open_table, store_errors, write

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LEASE_SECONDS = 60.0
# Renewals within one lease: some may be lost or late without losing the row.
_RENEWALS = 6
_RETRY_SECONDS = 1.0


class LeaseRows:
    """Rows of a table with the columns `owner` and `expires`, each owned by one at a time."""

    def __init__(
        self,
        address: str,
        table: sa.Table,
        *,
        lease_seconds: float,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """Open a table under a new owner's name; it is created on first use.

        Args:
            address: SQLAlchemy address of the database.
            table: its primary key is text.
            lease_seconds: a row not renewed for so long is left behind.
            clock: seconds, in place of the database's clock.

        Raises:
            StoreError: if the database cannot be used.
        """
        self.engine = open_table(address, table)
        self.seconds = lease_seconds
        self._table = table
        self._clock = clock
        self._owner = owner_name()

    def acquire(self, **row: Any) -> bool:
        """Whether a row is this owner's now.

        Args:
            row: all columns but `owner` and `expires`.
        """
        values = {**row, "owner": self._owner, "expires": self._end()}
        return add(self.engine, sa.insert(self._table).values(**values))

    def renew(self, **key: str) -> bool:
        """Whether a row still is this owner's; if so, for another lease."""
        renewed = sa.update(self._table).where(*self._mine(key)).values(expires=self._end())
        return write(self.engine, renewed) == 1

    def release(self, **key: str) -> None:
        """Remove a row, if it still is this owner's."""
        write(self.engine, sa.delete(self._table).where(*self._mine(key)))

    def rows(self, **where: str) -> Sequence[sa.Row[Any]]:
        """All rows with these values, those left behind included."""
        late = (self._table.c.expires < self._now()).label("late")
        query = sa.select(self._table, late).where(*self._where(where))
        with store_errors(self.engine), self.engine.connect() as connection:
            return connection.execute(query).all()

    def clear(self, **where: str) -> list[sa.Row[Any]]:
        """Remove the rows that were left behind; each is told to one caller only."""
        return [row for row in self.rows(**where) if self._is_dead(row) and self._remove(row)]

    def _is_dead(self, row: sa.Row[Any]) -> bool:
        return bool(row.late) or has_ended(row.owner)

    def _remove(self, row: sa.Row[Any]) -> bool:
        key = {column.name: getattr(row, column.name) for column in self._table.primary_key}
        same = [*self._where(key), self._table.c.owner == row.owner]
        if not has_ended(row.owner):
            same.append(self._table.c.expires < self._now())  # it may have renewed meanwhile
        return write(self.engine, sa.delete(self._table).where(*same)) == 1

    def _where(self, values: dict[str, str]) -> list[sa.ColumnElement[bool]]:
        return [self._table.c[name] == value for name, value in values.items()]

    def _mine(self, key: dict[str, str]) -> list[sa.ColumnElement[bool]]:
        return [*self._where(key), self._table.c.owner == self._owner]

    def _now(self) -> sa.ColumnElement[float]:
        return Now() if self._clock is None else sa.literal(self._clock())

    def _end(self) -> sa.ColumnElement[float]:
        return self._now() + self.seconds


class Lease:
    """A row that is renewed by a thread of its own until stopped."""

    def __init__(self, rows: LeaseRows, key: dict[str, str], name: str) -> None:
        """Watch over an acquired row.

        Args:
            rows: where it is.
            key: its key.
            name: what it stands for, for the error that tells of its loss.
        """
        self.failure: LeaseLostError | None = None
        self._rows = rows
        self._key = key
        self._name = name
        self._every = rows.seconds / _RENEWALS
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to renew."""
        self._thread = threading.Thread(target=self._keep, name="mordal-lease", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Renew no more; the row stays."""
        self._over.set()
        if self._thread:
            self._thread.join()

    def check(self) -> None:
        """Renew now, and make sure that the row still is its owner's.

        A database that is away is asked again for the length of a lease: what was done under
        this one may have taken hours, and the row is often still there.

        Raises:
            LeaseLostError: if another owner has the row.
            StoreError: if the database is away for longer.
        """
        give_up = time.monotonic() + self._rows.seconds
        while True:
            try:
                self._renew()
                break
            except StoreError:
                if time.monotonic() >= give_up:
                    raise
            time.sleep(min(self._every, _RETRY_SECONDS))
        if self.failure:
            raise self.failure

    def _renew(self) -> None:
        if not self._rows.renew(**self._key):
            self.failure = LeaseLostError(self._name)

    def _keep(self) -> None:
        while self.failure is None and not self._over.wait(self._every):
            try:
                self._renew()
            except StoreError:
                # The database may be back before the lease is over; if not, `check` says so.
                continue
