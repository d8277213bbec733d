"""The claim under which a candidate is trained: whether it is held, and its fencing token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from mordal_optuna.errors import MordalError


@dataclass(frozen=True)
class Token:
    """Fencing token: identifies the claim under which a checkpoint was written.

    Attributes:
        study: unique identifier of the study; a deleted study of the same name had another one.
        trial: number of the trial; of two claims on a candidate, the later one has the higher.
    """

    study: str
    trial: int

    def is_superseded_by(self, other: Token | None) -> bool:
        """Whether the other token belongs to a later claim of the same study.

        What was written under the later claim must not be overwritten under this one.

        Args:
            other: token of an existing checkpoint; None if it has none.
        """
        return other is not None and self.study == other.study and self.trial < other.trial


class Guard(Protocol):
    """A claim on a candidate, as training uses it."""

    @property
    def token(self) -> Token:
        """Token that is stored with every checkpoint written under the claim."""
        ...

    @property
    def failure(self) -> MordalError | None:
        """Why the claim is known to be lost; None while it is held. Never queries the database."""
        ...

    def check(self) -> None:
        """Ask the database whether the claim is still held.

        Raises:
            LeaseLostError: if another worker has claimed the candidate since.
            StoreError: if the database cannot be reached.
        """
        ...


@dataclass(frozen=True)
class KnownClaim:
    """A claim as far as it is known without the database, for a process that has to leave soon.

    Attributes:
        token: token of the claim.
        failure: why the claim was known to be lost; None if it was held.
    """

    token: Token
    failure: MordalError | None

    @classmethod
    def of(cls, guard: Guard) -> KnownClaim:
        """What is known of a claim now.

        Args:
            guard: the claim.
        """
        return cls(guard.token, guard.failure)

    def check(self) -> None:
        """Raise if the claim was known to be lost.

        Raises:
            MordalError: the reason.
        """
        if self.failure:
            raise self.failure
