"""What a recipe of an embedded pool is to who builds it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from mordal_optuna.progress import Advance


@dataclass(frozen=True)
class Part:
    """Something to build.

    Attributes:
        path: below the pool's folder.
        units: what its progress bar counts.
        seed: of everything in it.
    """

    path: str
    units: int
    seed: int


class Recipe(Protocol):
    """Everything that shapes a pool."""

    @property
    def name(self) -> str:
        """How study files call it."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Plain values, as stored beside a built pool."""
        ...

    def parts(self) -> list[Part]:
        """What is to be built, longest first: the last process to end does not end late."""
        ...

    def write(self, part: Part, folder: Path, advance: Advance) -> None:
        """Build one of the parts.

        Args:
            part: one of `parts()`.
            folder: gets what is built; does not exist yet.
            advance: is told of units done.
        """
        ...
