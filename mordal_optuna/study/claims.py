"""What workers share besides trials: claims on candidates, in the study's own database.

A worker claims a candidate before it trains it and renews the claim while it does, so that no two
workers train the same candidate at the same time. A worker that dies stops renewing; its claim
runs out and another worker goes on from the last checkpoint. Times are the database's own, so the
workers' clocks need not agree.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import sqlalchemy as sa
from optuna.storages import RDBStorage

from mordal_optuna.errors import StoreError
from mordal_optuna.pool import Candidate
from mordal_optuna.processes.guard import Token
from mordal_optuna.study.database import Name, engine_options
from mordal_optuna.study.leases import LEASE_SECONDS, Lease, LeaseRows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from mordal_optuna.errors import LeaseLostError
    from mordal_optuna.processes.guard import Guard

_claims = sa.Table(
    "mordal_claims",
    sa.MetaData(),
    sa.Column("study", Name(255), primary_key=True),
    sa.Column("vision_encoder", Name(255), primary_key=True),
    sa.Column("llm", Name(255), primary_key=True),
    sa.Column("trial", sa.Integer, nullable=False),
    sa.Column("owner", Name(255), nullable=False),
    sa.Column("expires", sa.Double, nullable=False),
)


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
        identity: str | None = None,
        lease_seconds: float = LEASE_SECONDS,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """Open the claims of a study.

        Args:
            address: SQLAlchemy address of the study's database.
            study: its name.
            identity: tells it from a deleted one of the same name; by default nothing does.
            lease_seconds: a claim not renewed for so long is free.
            clock: seconds, in place of the database's clock and without a renewing thread.

        Raises:
            StoreError: if the database cannot be used.
        """
        self._rows = LeaseRows(address, _claims, lease_seconds=lease_seconds, clock=clock)
        self._study = study
        self._identity = identity or study
        self._renewing = clock is None
        self._lock = threading.Lock()
        self._held: dict[Candidate, _Claim] = {}

    @contextmanager
    def hold(self, candidate: Candidate, trial: int) -> Iterator[Held | None]:
        """Claim a candidate for a trial and renew the claim; None if another worker holds it.

        Raises:
            StoreError: if the database cannot be used.
        """
        if not self.acquire(candidate, trial):
            yield None
            return
        lease = Lease(self._rows, self._key(candidate), str(candidate))
        claim = _Claim(lease, Token(self._identity, trial))
        if self._renewing:
            lease.start()
        with self._lock:
            self._held[candidate] = claim
        try:
            yield claim
        finally:
            with self._lock:
                if self._held.get(candidate) is claim:
                    del self._held[candidate]
            lease.stop()
            with suppress(StoreError):  # the lease runs out by itself
                self.release(candidate)

    def guard(self, candidate: Candidate) -> Guard | None:
        """The claim that this process holds on a candidate now; None where it holds none."""
        with self._lock:
            return self._held.get(candidate)

    def acquire(self, candidate: Candidate, trial: int) -> bool:
        """Whether the candidate is this worker's now."""
        return self._rows.acquire(**self._key(candidate), trial=trial)

    def renew(self, candidate: Candidate) -> bool:
        """Whether the candidate still is this worker's; if so, for another lease."""
        return self._rows.renew(**self._key(candidate))

    def release(self, candidate: Candidate) -> None:
        """Give a candidate back, if it still is this worker's."""
        self._rows.release(**self._key(candidate))

    def claimed(self) -> dict[Candidate, int]:
        """The trials of all claims, by candidate, dead ones included."""
        rows = self._rows.rows(study=self._study)
        return {Candidate(row.vision_encoder, row.llm): row.trial for row in rows}

    def bury(self) -> list[DeadClaim]:
        """Remove the claims of workers that are gone; each is told to one worker only."""
        return [
            DeadClaim(Candidate(row.vision_encoder, row.llm), row.trial, row.owner)
            for row in self._rows.clear(study=self._study)
        ]

    def _key(self, candidate: Candidate) -> dict[str, str]:
        return {
            "study": self._study,
            "vision_encoder": candidate.vision_encoder,
            "llm": candidate.llm,
        }


@dataclass(frozen=True)
class _Claim:
    """A claim that is held: the trial's and, through `ClaimStore.guard`, training's."""

    lease: Lease
    token: Token

    @property
    def failure(self) -> LeaseLostError | None:
        return self.lease.failure

    def check(self) -> None:
        self.lease.check()


def study_storage(address: str) -> RDBStorage:
    """Optuna's own storage, set up for many processes.

    Raises:
        SQLAlchemyError: if the database cannot be used.
    """
    return RDBStorage(address, engine_kwargs=engine_options(address))
