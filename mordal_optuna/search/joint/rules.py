"""Rules of a search by the joint model: its start, the size of its rounds, and when it ends.

Symbols:
    D   samples of a full alignment
    k   pairs of the start with each model of the larger side
    q   jobs of a round
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mordal_optuna.search.bounds import require

# Cost of the start in full runs, and bounds of its ratio.
_START_RUNS, _LEAST_RATIO, _MOST_RATIO = 2.0, 1 / 32, 1 / 8


@dataclass(frozen=True)
class Start:
    """The start of a search.

    Attributes:
        pairs: k, at least 1.
        ratio: share of D that the pairs are trained on, above 0 and at most 1; None chooses it,
            see `ratio_for`.
        seed: random seed of the design.
    """

    pairs: int = 2
    ratio: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the bounds.

        Raises:
            SearchError: if a value is out of its range.
        """
        require(self.pairs >= 1, "start_pairs", self.pairs, "at least 1")
        usable = self.ratio is None or 0 < self.ratio <= 1
        require(usable, "start_ratio", self.ratio, "above 0 and at most 1")

    def ratio_for(self, encoders: int, llms: int) -> float:
        """The share of D: the given one, or what makes the start cost about two full runs.

        It is at most 1/8, above which fewer pairs could be trained than are needed to compare
        models, and at least 1/32, below which scores say little. It is a power of 1/2.

        Args:
            encoders: number of encoders, at least 1.
            llms: number of LLMs, at least 1.
        """
        if self.ratio is not None:
            return self.ratio
        wanted = _START_RUNS / (self.pairs * max(encoders, llms))
        return min(max(2.0 ** math.floor(math.log2(wanted)), _LEAST_RATIO), _MOST_RATIO)


@dataclass(frozen=True)
class Rounds:
    """Size of the rounds after the start.

    Attributes:
        size: q, at least 1.
        lag: number of earlier rounds, beside those that end last, whose scores a round does not
            wait for; 0 waits for all earlier scores.
    """

    size: int = 4
    lag: int = 1

    def __post_init__(self) -> None:
        """Check the bounds.

        Raises:
            SearchError: if a value is out of its range.
        """
        require(self.size >= 1, "round_size", self.size, "at least 1")
        require(self.lag >= 0, "round_lag", self.lag, "at least 0")


@dataclass(frozen=True)
class Stop:
    """When the answer is good enough.

    Attributes:
        expected_regret: the search ends once the expected score of the best pair exceeds that of
            the leader by at most this, 0 to 1; None never ends it.
        probability: the search ends once the leader is the best pair with at least this
            probability, 0 to 1; None never ends it.
    """

    expected_regret: float | None = 0.005
    probability: float | None = None

    def __post_init__(self) -> None:
        """Check the bounds.

        Raises:
            SearchError: if a value is out of its range.
        """
        for name, value in (
            ("expected_regret", self.expected_regret),
            ("probability", self.probability),
        ):
            require(value is None or 0 <= value <= 1, f"stop: {name}", value, "from 0 to 1")
