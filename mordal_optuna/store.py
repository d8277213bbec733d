"""What workers share besides trials: claims on candidates, in the study's own database.

A worker claims a candidate before it trains it and renews the claim while it does, so that no two
workers train the same candidate at the same time. A worker that dies stops renewing; its claim
runs out and another worker goes on from the last checkpoint. Times are the database's own, so the
workers' clocks need not agree.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import sqlalchemy as sa
from optuna.storages import RDBStorage
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from mordal_optuna.database import engine_options, open_table, store_errors
from mordal_optuna.errors import LeaseLostError, StoreError
from mordal_optuna.liveness import has_ended, owner_name
from mordal_optuna.pool import Candidate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

LEASE_SECONDS = 60.0
# Renewals within one lease: some may be lost or late without losing the claim.
_RENEWALS = 6

_metadata = sa.MetaData()
_claims = sa.Table(
    "mordal_claims",
    _metadata,
    sa.Column("study", sa.String(255), primary_key=True),
    sa.Column("vision_encoder", sa.String(255), primary_key=True),
    sa.Column("llm", sa.String(255), primary_key=True),
    sa.Column("trial", sa.Integer, nullable=False),
    sa.Column("owner", sa.String(255), nullable=False),
    sa.Column("expires", sa.Double, nullable=False),
)


class _Now(FunctionElement[float]):
    """Seconds since 1970 by the database's clock, with fractions."""

    type = sa.Double()
    inherit_cache = True


@compiles(_Now, "sqlite")
def _sqlite_now(*_: Any, **__: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(_Now, "postgresql")
def _postgresql_now(*_: Any, **__: Any) -> str:
    return "extract(epoch from clock_timestamp())"


@compiles(_Now, "mysql")
@compiles(_Now, "mariadb")
def _mysql_now(*_: Any, **__: Any) -> str:
    return "unix_timestamp(now(6))"


class Held(Protocol):
    """A claim that is held."""

    def check(self) -> None:
        """Make sure it still is.

        Raises:
            LeaseLostError: if another worker was given the candidate meanwhile.
        """
        ...


class Claims(Protocol):
    """Who may train which candidate now."""

    def hold(self, candidate: Candidate, trial: int) -> AbstractContextManager[Held | None]:
        """Claim a candidate for a trial; None if another worker holds it.

        The claim is given back at the end of the context.
        """
        ...


class LocalClaims:
    """Claims among the threads of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: set[Candidate] = set()

    @contextmanager
    def hold(self, candidate: Candidate, trial: int) -> Iterator[Held | None]:  # noqa: ARG002
        """Claim a candidate; None if another thread holds it."""
        with self._lock:
            free = candidate not in self._taken
            self._taken.add(candidate)
        try:
            yield _Always() if free else None
        finally:
            if free:
                with self._lock:
                    self._taken.discard(candidate)


class _Always:
    def check(self) -> None:
        """Nobody takes a claim away inside one process."""


@dataclass(frozen=True)
class DeadClaim:
    """A claim whose worker is gone.

    Attributes:
        candidate: what it trained.
        trial: number of the trial it did so in.
        owner: who held it.
    """

    candidate: Candidate
    trial: int
    owner: str


class ClaimStore:
    """Claims of one study in its database; the table is created on first use.

    A row is a live claim. One candidate has at most one: its rungs build on one another and
    cannot be trained side by side, so a claim on the candidate is a claim on each of its rungs.
    """

    def __init__(
        self,
        address: str,
        study: str,
        *,
        lease_seconds: float = LEASE_SECONDS,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """Open the claims of a study.

        Args:
            address: SQLAlchemy address of the study's database.
            study: its name.
            lease_seconds: a claim not renewed for so long is free.
            clock: seconds, in place of the database's clock and without a renewing thread.

        Raises:
            StoreError: if the database cannot be used.
        """
        self._engine = open_table(address, _claims)
        self._study = study
        self._lease = lease_seconds
        self._clock = clock
        self._owner = owner_name()

    @contextmanager
    def hold(self, candidate: Candidate, trial: int) -> Iterator[Held | None]:
        """Claim a candidate for a trial and renew the claim; None if another worker holds it.

        Raises:
            StoreError: if the database cannot be used.
        """
        if not self.acquire(candidate, trial):
            yield None
            return
        lease = _Lease(self, candidate, self._lease / _RENEWALS)
        if self._clock is None:
            lease.start()
        try:
            yield lease
        finally:
            lease.stop()
            self.release(candidate)

    def acquire(self, candidate: Candidate, trial: int) -> bool:
        """Whether the candidate is this worker's now."""
        row = {**self._key(candidate), "trial": trial, "owner": self._owner}
        with store_errors(self._engine):
            try:
                with self._engine.begin() as connection:
                    connection.execute(sa.insert(_claims).values(expires=self._end(), **row))
            except IntegrityError:
                return False
        return True

    def renew(self, candidate: Candidate) -> bool:
        """Whether the candidate still is this worker's; if so, for another lease."""
        with store_errors(self._engine), self._engine.begin() as connection:
            renewed = connection.execute(
                sa.update(_claims).where(*self._mine(candidate)).values(expires=self._end())
            )
        return renewed.rowcount == 1

    def release(self, candidate: Candidate) -> None:
        """Give a candidate back, if it still is this worker's."""
        with store_errors(self._engine), self._engine.begin() as connection:
            connection.execute(sa.delete(_claims).where(*self._mine(candidate)))

    def claimed(self) -> dict[Candidate, int]:
        """The trials of all claims, by candidate, dead ones included."""
        with store_errors(self._engine), self._engine.connect() as connection:
            rows = connection.execute(sa.select(_claims).where(_claims.c.study == self._study))
            return {Candidate(row.vision_encoder, row.llm): row.trial for row in rows}

    def bury(self) -> list[DeadClaim]:
        """Remove the claims of workers that are gone; each is told to one worker only."""
        return [dead for dead in self._dead() if self._remove(dead)]

    def _dead(self) -> list[DeadClaim]:
        late = (_claims.c.expires < self._now()).label("late")
        query = sa.select(_claims, late).where(_claims.c.study == self._study)
        with store_errors(self._engine), self._engine.connect() as connection:
            rows = connection.execute(query).all()
        return [
            DeadClaim(Candidate(row.vision_encoder, row.llm), row.trial, row.owner)
            for row in rows
            if row.late or has_ended(row.owner)
        ]

    def _remove(self, dead: DeadClaim) -> bool:
        same = (*self._where(dead.candidate), _claims.c.owner == dead.owner)
        if not has_ended(dead.owner):
            same = (*same, _claims.c.expires < self._now())  # it may have renewed meanwhile
        with store_errors(self._engine), self._engine.begin() as connection:
            return connection.execute(sa.delete(_claims).where(*same)).rowcount == 1

    def _key(self, candidate: Candidate) -> dict[str, str]:
        return {
            "study": self._study,
            "vision_encoder": candidate.vision_encoder,
            "llm": candidate.llm,
        }

    def _where(self, candidate: Candidate) -> tuple[sa.ColumnElement[bool], ...]:
        return tuple(_claims.c[name] == value for name, value in self._key(candidate).items())

    def _mine(self, candidate: Candidate) -> tuple[sa.ColumnElement[bool], ...]:
        return (*self._where(candidate), _claims.c.owner == self._owner)

    def _now(self) -> sa.ColumnElement[float]:
        return _Now() if self._clock is None else sa.literal(self._clock())

    def _end(self) -> sa.ColumnElement[float]:
        return self._now() + self._lease


class _Lease:
    """Renews a claim from a thread of its own until stopped."""

    def __init__(self, store: ClaimStore, candidate: Candidate, every: float) -> None:
        self._store = store
        self._candidate = candidate
        self._every = every
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._renew, name="mordal-claim", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        if self._thread:
            self._thread.join()

    def check(self) -> None:
        """Renew now, and make sure the claim is still this worker's.

        Raises:
            LeaseLostError: if it is not.
        """
        if not self._store.renew(self._candidate):
            raise LeaseLostError(str(self._candidate))

    def _renew(self) -> None:
        while not self._over.wait(self._every):
            try:
                if not self._store.renew(self._candidate):
                    return  # `check` says so before anything is reported
            except StoreError:
                # The database may be back before the lease is over; if not, `check` says so.
                continue


def study_storage(address: str) -> RDBStorage:
    """Optuna's own storage, set up for many processes.

    Raises:
        SQLAlchemyError: if the database cannot be used.
    """
    return RDBStorage(address, engine_kwargs=engine_options(address))
