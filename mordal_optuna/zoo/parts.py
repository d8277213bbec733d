"""The interface between a recipe of a pool and the builder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from mordal_optuna.progress import Advance


@dataclass(frozen=True)
class Part:
    """A part of a pool: one model, the alignment set, or one task.

    Attributes:
        path: folder of the part, relative to the pool's folder.
        units: total of the part's progress bar: optimiser steps, samples or documents.
        seed: random seed of weights, pictures and texts.
    """

    path: str
    units: int
    seed: int


class Recipe(Protocol):
    """Everything that determines a pool."""

    @property
    def name(self) -> str:
        """Name of the recipe in study files."""
        ...

    def to_json(self) -> dict[str, Any]:
        """The recipe as JSON values; the builder stores them in the pool's folder."""
        ...

    def parts(self) -> list[Part]:
        """All parts, the longest first, so that no process starts a long part last."""
        ...

    def write(self, part: Part, folder: Path, advance: Advance) -> None:
        """Build one part.

        Args:
            part: one of `parts()`.
            folder: folder to write, which does not exist yet.
            advance: callback that receives the number of units just done.
        """
        ...
