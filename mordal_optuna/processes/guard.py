"""What training asks of a claim: is it still held, and in what name does it write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from mordal_optuna.errors import MordalError


@dataclass(frozen=True)
class Token:
    """In whose name a checkpoint is written.

    Attributes:
        study: tells a study from all others, also from one of the same name that was deleted.
        trial: number of the trial; of two claims on one candidate, the later has the higher one.
    """

    study: str
    trial: int

    def yields_to(self, other: Token | None) -> bool:
        """Whether what `other` has written must stay: a later claim of the same study."""
        return other is not None and self.study == other.study and self.trial < other.trial


class Guard(Protocol):
    """A claim, as those see it who train under it."""

    @property
    def token(self) -> Token:
        """In whose name checkpoints are written."""
        ...

    @property
    def failure(self) -> MordalError | None:
        """Why the claim is known to be lost; None while it is not. Asks nobody."""
        ...

    def check(self) -> None:
        """Make sure now that the claim is still held.

        Raises:
            LeaseLostError: if another worker was given the candidate.
            StoreError: if nobody can say so.
        """
        ...
