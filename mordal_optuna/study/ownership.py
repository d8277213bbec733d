"""Ownership: rows of the study's database that an owner holds by a lease, and who runs a study.

An owner renews its rows while it lives. A row counts as abandoned once its lease has expired, or
at once if the owner's process is known to have ended. Times come from the database's clock, so the
clocks of several machines need not agree.
"""

from __future__ import annotations

import hashlib
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from mordal_optuna.errors import BusyError, LeaseLostError, SearchError, StoreError
from mordal_optuna.files.addresses import shown_address
from mordal_optuna.processes.liveness import has_ended, owner_name
from mordal_optuna.study.database import Name, Now, add, open_table, store_errors, write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

LEASE_SECONDS = 60.0
# Renewals during one lease: several may fail or come late before the row is lost.
_RENEWALS = 6
_RETRY_SECONDS = 1.0
# Longest beginning of a study's name in the names of its workers' rows.
_STEM = 180
# As long as a worker waits out an outage, see `processes/patience.py`.
OUTAGE_SECONDS = 1800.0

_runs = sa.Table(
    "mordal_runs",
    sa.MetaData(),
    sa.Column("study", Name(255), primary_key=True),
    sa.Column("owner", Name(255), nullable=False),
    sa.Column("expires", sa.Double, nullable=False),
)


class LeaseRows:
    """Rows of a table with the columns `owner` and `expires`; each row has one owner at a time."""

    def __init__(
        self,
        address: str,
        table: sa.Table,
        *,
        lease_seconds: float,
        grace_seconds: float = 0.0,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """Open a table under a new owner name; the table is created on first use.

        Args:
            address: SQLAlchemy address of the database.
            table: table whose primary key is text.
            lease_seconds: length of a lease, above 0: a row not renewed for so long is abandoned.
            grace_seconds: how long an expired row is watched, by this process's clock, before it
                counts as abandoned. After an outage of the database all rows have expired, and
                owners that live renew theirs within a part of the lease.
            clock: current time in seconds; the database's clock by default.

        Raises:
            SearchError: if the lease is not above 0 seconds.
            StoreError: if the database cannot be used.
        """
        if not lease_seconds > 0:
            raise SearchError(f"lease_seconds: got {lease_seconds}; it must be above 0")
        self.engine = open_table(address, table)
        self.seconds = lease_seconds
        self._table = table
        self._grace = grace_seconds
        self._late: dict[tuple[Any, ...], float] = {}  # when an expired row was first seen
        self._clock = clock
        self._owner = owner_name()

    def acquire(self, **row: Any) -> bool:
        """Insert a row for this owner; False if another owner has it.

        Args:
            row: values of all columns except `owner` and `expires`.
        """
        values = {**row, "owner": self._owner, "expires": self._end()}
        return add(self.engine, sa.insert(self._table).values(**values))

    def renew(self, **key: str) -> bool:
        """Renew the lease of a row; False if this owner no longer has it."""
        renewed = sa.update(self._table).where(*self._mine(key)).values(expires=self._end())
        return write(self.engine, renewed) == 1

    def release(self, **key: str) -> None:
        """Delete a row if this owner still has it."""
        write(self.engine, sa.delete(self._table).where(*self._mine(key)))

    def rows(self, **where: str) -> Sequence[sa.Row[Any]]:
        """All rows with these column values, including abandoned ones."""
        late = (self._table.c.expires < self._now()).label("late")
        query = sa.select(self._table, late).where(*self._where(where))
        with store_errors(self.engine), self.engine.connect() as connection:
            return connection.execute(query).all()

    def remove_abandoned(
        self, chosen: Callable[[sa.Row[Any]], bool] = lambda _: True, **where: str
    ) -> list[sa.Row[Any]]:
        """Delete and return the abandoned rows; each is returned to exactly one caller.

        Args:
            chosen: whether a row may be deleted.
            where: values of columns that rows must have.
        """
        return self.sweep(chosen, **where)[0]

    def sweep(
        self, chosen: Callable[[sa.Row[Any]], bool] = lambda _: True, **where: str
    ) -> tuple[list[sa.Row[Any]], list[sa.Row[Any]]]:
        """Delete the abandoned rows, in one reading of all.

        Args:
            chosen: whether a row may be deleted.
            where: values of columns that rows must have.

        Returns:
            The deleted rows, each of which is returned to exactly one caller; and the other ones.
        """
        found = self.rows(**where)
        rows = [row for row in found if chosen(row)]
        now = time.monotonic()
        self._late = {
            tuple(row): self._late.get(tuple(row), now) for row in rows if bool(row.late)
        }
        removed = [row for row in rows if self._is_abandoned(row, now) and self._remove(row)]
        return removed, [row for row in found if row not in removed]

    def _is_abandoned(self, row: sa.Row[Any], now: float) -> bool:
        since = self._late.get(tuple(row))
        return has_ended(row.owner) or (since is not None and now - since >= self._grace)

    def _remove(self, row: sa.Row[Any]) -> bool:
        key = {column.name: getattr(row, column.name) for column in self._table.primary_key}
        unchanged = [*self._where(key), self._table.c.owner == row.owner]
        if not has_ended(row.owner):
            # The owner may have renewed the lease since the row was read.
            unchanged.append(self._table.c.expires < self._now())
        return write(self.engine, sa.delete(self._table).where(*unchanged)) == 1

    def _where(self, values: dict[str, str]) -> list[sa.ColumnElement[bool]]:
        return [self._table.c[name] == value for name, value in values.items()]

    def _mine(self, key: dict[str, str]) -> list[sa.ColumnElement[bool]]:
        return [*self._where(key), self._table.c.owner == self._owner]

    def _now(self) -> sa.ColumnElement[float]:
        return Now() if self._clock is None else sa.literal(self._clock())

    def _end(self) -> sa.ColumnElement[float]:
        return self._now() + self.seconds


class Lease:
    """The lease of an acquired row; a thread renews it until it is stopped."""

    def __init__(
        self,
        rows: LeaseRows,
        key: dict[str, str],
        name: str,
        *,
        wait_seconds: float = OUTAGE_SECONDS,
    ) -> None:
        """Prepare to renew an acquired row.

        Args:
            rows: open table of the row.
            key: primary key of the row.
            name: name of the leased thing, for the error that reports a lost lease.
            wait_seconds: how long `check` waits for a database that cannot be reached.
        """
        self._wait_seconds = wait_seconds
        self.failure: LeaseLostError | None = None
        self._rows = rows
        self._key = key
        self._name = name
        self._interval = rows.seconds / _RENEWALS
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the renewing thread."""
        self._thread = threading.Thread(target=self._keep, name="mordal-lease", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the renewing thread; the row stays."""
        self._stopped.set()
        if self._thread:
            self._thread.join()

    def check(self) -> None:
        """Renew now, and verify that this owner still has the row.

        If the database cannot be reached, it is waited for, for half an hour: the work done under
        the lease may have taken hours, and the row is often still there afterwards.

        Raises:
            LeaseLostError: if another owner has the row.
            StoreError: if the database cannot be reached for longer than that.
        """
        give_up = time.monotonic() + self._wait_seconds
        while True:
            try:
                self._renew()
                break
            except StoreError:
                if time.monotonic() >= give_up:
                    raise
            time.sleep(min(self._interval, _RETRY_SECONDS))
        if self.failure:
            raise self.failure

    def _renew(self) -> None:
        if not self._rows.renew(**self._key):
            self.failure = LeaseLostError(self._name)

    def _keep(self) -> None:
        while self.failure is None and not self._stopped.wait(self._interval):
            try:
                self._renew()
            except StoreError:
                # The database may return before the lease expires; otherwise `check` reports it.
                continue


def open_runs(address: str, *, lease_seconds: float = LEASE_SECONDS) -> LeaseRows:
    """The rows that say who works on what; the table is created on first use.

    Args:
        address: SQLAlchemy address of the database.
        lease_seconds: length of a lease, above 0. A process on another machine that is silent for
            so long counts as ended.

    Raises:
        SearchError: if the lease is not above 0 seconds.
        StoreError: if the database cannot be used.
    """
    return LeaseRows(address, _runs, lease_seconds=lease_seconds)


@contextmanager
def owned(rows: LeaseRows, name: str) -> Iterator[Lease | None]:
    """Own a name, and keep its lease renewed.

    Args:
        rows: rows that `open_runs` opened.
        name: name of a study, or of other work that one owner does at a time.

    Yields:
        The lease; None if another owner has the name.

    Raises:
        StoreError: if the database cannot be used.
    """
    rows.remove_abandoned(study=name)
    if not rows.acquire(study=name):
        yield None
        return
    lease = Lease(rows, {"study": name}, name)
    lease.start()
    try:
        yield lease
    finally:
        lease.stop()
        with suppress(StoreError):  # the lease expires by itself
            rows.release(study=name)


@contextmanager
def alone_on(address: str, study: str, *, lease_seconds: float = LEASE_SECONDS) -> Iterator[None]:
    """Keep other processes from running a study; the table is created on first use.

    Args:
        address: SQLAlchemy address of the study's database.
        study: name of the study.
        lease_seconds: length of the lease, above 0, see `open_runs`.

    Raises:
        BusyError: if another process runs the study, or workers do.
        SearchError: if the lease is not above 0 seconds.
        StoreError: if the database cannot be used.
    """
    rows = open_runs(address, lease_seconds=lease_seconds)
    with owned(rows, study) as lease:
        # The own row first: of a worker that joins at the same moment, one sees the other.
        if lease is None or live_rows(rows, worker_prefix(study)):
            raise busy_on(rows, study)
        yield


def worker_prefix(study: str) -> str:
    """How the names of the rows of a study's workers begin, see `membership`.

    Args:
        study: name of the study.
    """
    stem = study
    if len(study) > _STEM:
        stem = study[:_STEM] + hashlib.sha256(study.encode()).hexdigest()[:16]
    return f"{stem} [worker "


def live_rows(rows: LeaseRows, prefix: str) -> list[str]:
    """Names of the rows that begin with a prefix and whose owners live.

    Args:
        rows: rows that `open_runs` opened.
        prefix: how the names begin.

    Raises:
        StoreError: if the database cannot be used.
    """
    found = [row for row in rows.rows() if row.study.startswith(prefix)]
    return [row.study for row in found if not (row.late or has_ended(row.owner))]


def busy_on(rows: LeaseRows, study: str) -> BusyError:
    """What a process is told that may not work on a study now.

    Args:
        rows: rows that `open_runs` opened.
        study: name of the study.
    """
    place = shown_address(rows.engine.url.render_as_string(hide_password=False))
    return BusyError(
        f"on study {study!r} in {place!r}",
        "wait for it to end; if its machine went down, it counts as ended after "
        f"{rows.seconds:.0f} seconds",
    )
