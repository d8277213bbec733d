"""Claims on candidates, in the study's database: who may train which candidate.

A worker claims a candidate before it trains it and renews the claim while it trains, so that no
two workers train the same candidate at the same time. If a worker dies, its claim expires and
another worker continues from the last checkpoint.
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakValueDictionary

import sqlalchemy as sa
from optuna.storages import RDBStorage
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError
from tenacity import retry, retry_if_exception, stop_after_attempt, wait_random

from mordal_optuna.errors import StoreError
from mordal_optuna.pool import Candidate
from mordal_optuna.processes.guard import Token
from mordal_optuna.study.database import Name, engine_options, share_engine
from mordal_optuna.study.ownership import LEASE_SECONDS, Lease, LeaseRows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
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

# Share of a lease for which an expired claim is watched before it is taken over: two renewals.
_GRACE = 1 / 3
# Storages of this process that are in use. Optuna keeps nothing in them but connections.
_storages: WeakValueDictionary[tuple[int, str], RDBStorage] = WeakValueDictionary()


class HeldClaim(Protocol):
    """A claim that this worker holds."""

    def check(self) -> None:
        """Verify that this worker still holds the claim.

        Raises:
            LeaseLostError: if another worker has claimed the candidate meanwhile.
        """
        ...


class Claims(Protocol):
    """Gives out claims; a candidate is claimed by one worker at a time."""

    def hold(self, candidate: Candidate, trial: int) -> AbstractContextManager[HeldClaim | None]:
        """Claim a candidate for a trial, and release the claim at the end of the context.

        Args:
            candidate: pair to train.
            trial: number of the trial.

        Returns:
            A context with the claim; with None if another worker holds the candidate.
        """
        ...


class LocalClaims:
    """Claims among the threads of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: set[Candidate] = set()

    @contextmanager
    def hold(self, candidate: Candidate, trial: int) -> Iterator[HeldClaim | None]:  # noqa: ARG002
        """Claim a candidate; yields None if another thread holds it."""
        with self._lock:
            free = candidate not in self._taken
            self._taken.add(candidate)
        try:
            yield _LocalClaim() if free else None
        finally:
            if free:
                with self._lock:
                    self._taken.discard(candidate)


class _LocalClaim:
    def check(self) -> None:
        """A claim inside one process is never lost."""


@dataclass(frozen=True)
class AbandonedClaim:
    """A claim whose worker has ended or has let the lease expire.

    Attributes:
        candidate: claimed pair.
        trial: number of the trial that trained the pair.
        owner: name of the worker that held the claim.
    """

    candidate: Candidate
    trial: int
    owner: str


class ClaimStore:
    """Claims of one study in its database; the table is created on first use.

    Each row is a claim. A candidate has at most one, which covers all of its rungs: each rung
    continues from the one below, so they cannot be trained in parallel.
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
            study: name of the study.
            identity: unique name of the study, different from that of a deleted study with the
                same name; the study's name by default.
            lease_seconds: length of a lease, above 0: a claim not renewed for so long is free.
            clock: current time in seconds, which also turns off the renewing thread; the
                database's clock by default.

        Raises:
            SearchError: if the lease is not above 0 seconds.
            StoreError: if the database cannot be used.
        """
        # With a clock that a test sets, nothing is watched over time.
        grace = 0.0 if clock else _GRACE * lease_seconds
        self._rows = LeaseRows(
            address, _claims, lease_seconds=lease_seconds, grace_seconds=grace, clock=clock
        )
        self._study = study
        self._identity = identity or study
        self._renewing = clock is None
        self._lock = threading.Lock()
        self._held: dict[Candidate, _Claim] = {}

    @contextmanager
    def hold(self, candidate: Candidate, trial: int) -> Iterator[HeldClaim | None]:
        """Claim a candidate for a trial and keep the claim renewed.

        Yields:
            The claim; None if another worker holds the candidate.

        Raises:
            StoreError: if the database cannot be used.
        """
        claim = self._taken(candidate, trial) or self._begun(candidate, trial)
        if claim is None:
            yield None
            return
        try:
            yield claim
        finally:
            self._end(candidate, claim)

    def take(self, candidate: Candidate, trial: int) -> bool:
        """Claim a candidate for a trial that will `hold` it later, and keep the claim renewed.

        Args:
            candidate: pair to train.
            trial: number of the trial.

        Returns:
            False if another worker holds the candidate.

        Raises:
            StoreError: if the database cannot be used.
        """
        return self._begun(candidate, trial) is not None

    def give_back(self, trial: int) -> None:
        """Release what a trial has taken or held and has not released.

        Args:
            trial: number of the trial.
        """
        with self._lock:
            left = [(c, claim) for c, claim in self._held.items() if claim.token.trial == trial]
        for candidate, claim in left:
            self._end(candidate, claim)

    def _taken(self, candidate: Candidate, trial: int) -> _Claim | None:
        with self._lock:
            claim = self._held.get(candidate)
        return claim if claim and claim.token.trial == trial else None

    def _begun(self, candidate: Candidate, trial: int) -> _Claim | None:
        """A new claim, kept renewed; None if another worker has the candidate."""
        if not self.acquire(candidate, trial):
            return None
        lease = Lease(self._rows, self._key(candidate), str(candidate))
        claim = _Claim(lease, Token(self._identity, trial))
        if self._renewing:
            lease.start()
        with self._lock:
            self._held[candidate] = claim
        return claim

    def _end(self, candidate: Candidate, claim: _Claim) -> None:
        with self._lock:
            if self._held.get(candidate) is claim:
                del self._held[candidate]
        claim.lease.stop()
        with suppress(StoreError):  # the lease expires by itself
            self.release(candidate)

    def guard(self, candidate: Candidate) -> Guard | None:
        """The claim that this process now holds on a candidate; None without one."""
        with self._lock:
            return self._held.get(candidate)

    def acquire(self, candidate: Candidate, trial: int) -> bool:
        """Claim a candidate; False if another worker holds it."""
        return self._rows.acquire(**self._key(candidate), trial=trial)

    def renew(self, candidate: Candidate) -> bool:
        """Renew a claim; False if this worker no longer holds it."""
        return self._rows.renew(**self._key(candidate))

    def release(self, candidate: Candidate) -> None:
        """Release a claim if this worker still holds it."""
        self._rows.release(**self._key(candidate))

    def claimed(self) -> dict[Candidate, int]:
        """Trial number of each claimed candidate, including abandoned claims."""
        return _trials(self._rows.rows(study=self._study))

    def remove_abandoned(self) -> list[AbandonedClaim]:
        """Delete and return the abandoned claims; each is returned to exactly one worker."""
        return self.sweep()[0]

    def sweep(self) -> tuple[list[AbandonedClaim], dict[Candidate, int]]:
        """Delete the abandoned claims, in one reading of all.

        Returns:
            The abandoned claims, each of which is returned to exactly one worker; and the trial
            number of each candidate with another claim.
        """
        removed, left = self._rows.sweep(study=self._study)
        abandoned = [
            AbandonedClaim(Candidate(row.vision_encoder, row.llm), row.trial, row.owner)
            for row in removed
        ]
        return abandoned, _trials(left)

    def _key(self, candidate: Candidate) -> dict[str, str]:
        return {
            "study": self._study,
            "vision_encoder": candidate.vision_encoder,
            "llm": candidate.llm,
        }


def _trials(rows: Sequence[sa.Row[Any]]) -> dict[Candidate, int]:
    return {Candidate(row.vision_encoder, row.llm): row.trial for row in rows}


@dataclass(frozen=True)
class _Claim:
    """A held claim, used by the trial and, through `ClaimStore.guard`, by training."""

    lease: Lease
    token: Token

    @property
    def failure(self) -> LeaseLostError | None:
        return self.lease.failure

    def check(self) -> None:
        self.lease.check()


def study_storage(address: str) -> RDBStorage:
    """Optuna's RDB storage, configured for many processes.

    All storages, claims and tables of a process on one database share their connections.

    Args:
        address: SQLAlchemy address of the database.

    Raises:
        SQLAlchemyError: if the database cannot be used.
    """
    key = (os.getpid(), address)
    storage = _storages.get(key)
    if storage is None:
        storage = _created(address)
        share_engine(address, storage.engine)
        _storages[key] = storage
    return storage


def _came_second(error: BaseException) -> bool:
    """Whether another worker has created the tables in the same moment."""
    if isinstance(error, IntegrityError):
        return True
    creating = isinstance(error, (OperationalError, ProgrammingError))
    return creating and "already exists" in str(error)


@retry(
    retry=retry_if_exception(_came_second),
    stop=stop_after_attempt(3),
    wait=wait_random(0.1, 0.5),
    reraise=True,
)
def _created(address: str) -> RDBStorage:
    """Of workers that create Optuna's tables at the same moment, all but one get an error."""
    # Optuna takes braces for a place to fill in; a password may have some.
    escaped = address.replace("{", "{{").replace("}", "}}")
    return RDBStorage(escaped, engine_kwargs=engine_options(address))
