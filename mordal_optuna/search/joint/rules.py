"""Rules of a search by the joint model: its start, the size of its rounds, and when it ends.

Symbols:
    D   samples of a full alignment
    k   pairs of the start with each model of the larger side
    q   jobs of a round
"""

from __future__ import annotations

from dataclasses import dataclass

from mordal_optuna.search.bounds import require


@dataclass(frozen=True)
class Start:
    """The start of a search.

    Attributes:
        pairs: k, at least 1.
        ratio: share of D that the pairs are trained on, above 0 and at most 1.
        seed: random seed of the design.
    """

    pairs: int = 2
    ratio: float = 0.125
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the bounds.

        Raises:
            SearchError: if a value is out of its range.
        """
        require(self.pairs >= 1, "start_pairs", self.pairs, "at least 1")
        require(0 < self.ratio <= 1, "start_ratio", self.ratio, "above 0 and at most 1")


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
