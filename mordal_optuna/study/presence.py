"""Presence: which workers of a study are alive, and what each does, in the study's database.

A worker has a row while it lives. A thread writes it, so that the worker never waits for the
database: an outage delays what is shown and stops nothing. All times are of the database's clock.
"""

from __future__ import annotations

import platform
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

# Loaded here, and not on first use inside the thread: a module that two threads import at the same
# time can be seen half loaded.
import sqlalchemy.orm

from mordal_optuna.errors import StoreError
from mordal_optuna.processes.liveness import has_ended, owner_name
from mordal_optuna.study.database import Name, Now, engine_options, store_errors, write
from mordal_optuna.study.ownership import LEASE_SECONDS, LeaseRows

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

# Characters of what a worker does; a longer text is cut.
LONGEST = 255
# Renewals during one lease, as for other leases.
_RENEWALS = 6
# Seconds that the end of a worker waits for its row to be removed; otherwise the row expires.
_FAREWELL_SECONDS = 5.0

_workers = sa.Table(
    "mordal_workers",
    sa.MetaData(),
    sa.Column("study", Name(255), primary_key=True),
    sa.Column("worker", Name(255), primary_key=True),
    sa.Column("host", Name(255), nullable=False),
    sa.Column("devices", sa.Integer, nullable=False),
    sa.Column("started", sa.Double, nullable=False),
    sa.Column("doing", Name(LONGEST), nullable=False),
    sa.Column("since", sa.Double, nullable=False),
    sa.Column("owner", Name(255), nullable=False),
    sa.Column("expires", sa.Double, nullable=False),
)


@dataclass(frozen=True)
class LiveWorker:
    """A worker that is alive.

    Attributes:
        name: unique name of the worker, see `processes.liveness.owner_name`.
        host: name of its machine.
        devices: number of processes of its launch, each with a device of its own.
        seconds: seconds since its start.
        doing: what it does, such as "training clip-l + qwen2-7b to 4,096 samples".
        doing_seconds: seconds since it began with that.
    """

    name: str
    host: str
    devices: int
    seconds: float
    doing: str
    doing_seconds: float

    @property
    def process(self) -> int:
        """Number of its process on its machine."""
        return int(self.name.split("/")[1])


class Presence:
    """Shows that this worker is alive and what it does; a context manager.

    `does` costs nothing: a thread writes the newest text, and renews the row's lease. In an outage
    it tries again later.
    """

    def __init__(
        self,
        address: str,
        study: str,
        *,
        devices: int = 1,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        """Prepare; the row is written once the context is entered.

        Args:
            address: SQLAlchemy address of the study's database.
            study: name of the study.
            devices: number of processes of this launch.
            lease_seconds: length of the row's lease, above 0: a worker on another machine that is
                silent for so long counts as ended.
        """
        self._address = address
        self._key = {"study": study, "worker": owner_name()}
        self._devices = devices
        self._seconds = lease_seconds
        self._host = platform.node()[:255]
        self._begun = time.monotonic()
        self._doing = ("starting", self._begun)
        self._rows: LeaseRows | None = None
        self._changed, self._ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._keep, name="mordal-presence", daemon=True)

    def does(self, text: str) -> None:
        """Say what this worker does from now on.

        Args:
            text: a few words, such as "waiting".
        """
        if text[:LONGEST] != self._doing[0]:
            self._doing = (text[:LONGEST], time.monotonic())
            self._changed.set()

    def __enter__(self) -> Self:
        """Begin to show this worker."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the row; in an outage it expires."""
        self._ended.set()
        self._changed.set()
        self._thread.join(_FAREWELL_SECONDS)

    def _keep(self) -> None:
        while not self._ended.is_set():
            self._changed.clear()
            with suppress(StoreError):  # the next renewal writes the same again
                self._write()
            self._changed.wait(self._seconds / _RENEWALS)
        if self._rows:
            with suppress(StoreError):
                self._rows.release(**self._key)

    def _write(self) -> None:
        """Renew the row with what this worker does; write it again if others removed it."""
        if self._rows is None:
            self._rows = LeaseRows(self._address, _workers, lease_seconds=self._seconds)
            self._rows.remove_abandoned(study=self._key["study"])
        doing, since = self._doing
        now = time.monotonic()
        text = {"doing": doing, "since": Now() - (now - since)}
        if self._rows.renew(**self._key):
            here = [_workers.c[name] == value for name, value in self._key.items()]
            new = [*here, _workers.c.doing != doing]
            write(self._rows.engine, sa.update(_workers).where(*new).values(**text))
            return
        self._rows.acquire(
            **self._key,
            host=self._host,
            devices=self._devices,
            started=Now() - (now - self._begun),
            **text,
        )


def alive(address: str, study: str) -> tuple[LiveWorker, ...]:
    """The workers of a study that are alive, in the order of their start; only reads.

    Args:
        address: SQLAlchemy address of the study's database.
        study: name of the study.

    Raises:
        StoreError: if the database cannot be used.
    """
    engine = sa.create_engine(address, **engine_options(address))
    try:
        with store_errors(engine), engine.connect() as connection:
            return read_alive(connection, study)
    finally:
        engine.dispose()


def read_alive(connection: sa.Connection, study: str) -> tuple[LiveWorker, ...]:
    """The same as `alive`, through an open connection.

    Args:
        connection: connection to the study's database.
        study: name of the study.
    """
    if not sa.inspect(connection).has_table(_workers.name):
        return ()  # no worker has ever shown itself there
    columns = _workers.c
    query = (
        sa.select(
            *(columns.worker, columns.host, columns.devices, columns.doing),
            (Now() - columns.started).label("seconds"),
            (Now() - columns.since).label("doing_seconds"),
        )
        .where(columns.study == study, columns.expires >= Now())
        .order_by(columns.started, columns.worker)
    )
    return tuple(
        LiveWorker(
            name=row.worker,
            host=row.host,
            devices=row.devices,
            seconds=max(float(row.seconds), 0.0),
            doing=row.doing,
            doing_seconds=max(float(row.doing_seconds), 0.0),
        )
        for row in connection.execute(query)
        if not has_ended(row.worker)
    )
