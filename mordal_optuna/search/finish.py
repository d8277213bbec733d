"""The finish of a search: how many finalists are trained beyond R, and on which rungs.

Symbols:
    R    max_ratio, the largest share of the alignment set before the finish
    D    samples of a full alignment
    eta  finalists that compete for one place; factor between rungs
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mordal_optuna.search.bounds import require


@dataclass(frozen=True)
class Finish:
    """How the finalists are compared once the search up to R is done.

    Attributes:
        finalists: largest number of candidates trained beyond R, at least 0; 0 trusts the curves.
        race: rungs between R and D, ascending. The best 1/eta of the finalists at a rung are
            promoted to the next one, until one finalist, the winner, is left. Without race rungs
            only finalists within noise of the leader are trained, all of them on D samples.
        eta: finalists that compete for one place in a race, at least 2.
        train_winner: whether the winner of a race is trained on D samples. While fewer than eta
            candidates are trained on D samples, a candidate estimated above them is trained too.
    """

    finalists: int = 0
    race: tuple[int, ...] = ()
    eta: int = 2
    train_winner: bool = False

    def __post_init__(self) -> None:
        """Check the bounds.

        Raises:
            SearchError: if a value is out of its range.
        """
        require(self.finalists >= 0, "finalists", self.finalists, "at least 0")
        require(self.eta >= 2, "eta", self.eta, "at least 2")

    def places(self) -> tuple[int, ...]:
        """Number of finalists at each rung of the race."""
        counts = [self.finalists]
        for _ in self.race[1:]:
            counts.append(math.ceil(counts[-1] / self.eta))
        return tuple(counts[: len(self.race)])
