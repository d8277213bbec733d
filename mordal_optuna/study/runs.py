"""Which process runs a study: one at a time, wherever it keeps its files."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import sqlalchemy as sa

from mordal_optuna.errors import BusyError, StoreError
from mordal_optuna.study.database import Name
from mordal_optuna.study.leases import LEASE_SECONDS, Lease, LeaseRows

if TYPE_CHECKING:
    from collections.abc import Iterator

_runs = sa.Table(
    "mordal_runs",
    sa.MetaData(),
    sa.Column("study", Name(255), primary_key=True),
    sa.Column("owner", Name(255), nullable=False),
    sa.Column("expires", sa.Double, nullable=False),
)


@contextmanager
def alone_on(address: str, study: str, *, lease_seconds: float = LEASE_SECONDS) -> Iterator[None]:
    """Keep other processes from running a study; the table is created on first use.

    Args:
        address: SQLAlchemy address of the study's database.
        study: its name.
        lease_seconds: a process of another machine that was silent for so long has ended.

    Raises:
        BusyError: if another process runs it.
        StoreError: if the database cannot be used.
    """
    rows = LeaseRows(address, _runs, lease_seconds=lease_seconds)
    rows.clear(study=study)
    if not rows.acquire(study=study):
        place = rows.engine.url.render_as_string(hide_password=True)
        raise BusyError(
            f"on study {study!r} in {place!r}",
            "wait for it to end; one whose machine went down counts as ended after "
            f"{lease_seconds:.0f} seconds",
        )
    lease = Lease(rows, {"study": study}, study)
    lease.start()
    try:
        yield
    finally:
        lease.stop()
        with suppress(StoreError):  # the lease runs out by itself
            rows.release(study=study)
