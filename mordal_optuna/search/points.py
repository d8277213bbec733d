"""What a learning curve is fitted to."""

from __future__ import annotations

from typing import Protocol


class Point(Protocol):
    """A point of a curve: a `Measurement`, or another quantity that falls as errors do."""

    @property
    def samples(self) -> int:
        """n_i, at least 1."""
        ...

    @property
    def log_error(self) -> float:
        """y_i, or the logarithm of the other quantity."""
        ...

    @property
    def log_noise(self) -> float:
        """Standard error of `log_error`, above 0."""
        ...
