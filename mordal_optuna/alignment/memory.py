"""How many tokens a micro-batch may have: a bound that is given, and bounds found in training.

Symbols:
    R   rows of a micro-batch's input
    L   tokens of its rows, padding included
    c   class of lengths: L has c binary digits

A micro-batch takes memory for its R L tokens, and more per token the longer its rows are, where
whole attention matrices are computed. So after an error a class c and those above it get three
quarters of the tokens that failed; shorter rows keep their bound. Memory that ran out may be there
again later (another process has ended, or the memory was in too many pieces), so a bound rises by
a quarter every so many steps until it is gone. Each further error of a class doubles that number
of steps: repeated steps become ever rarer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# `grouped` pads samples to rows of equal length, `packed` joins them to one row.
Batching = Literal["grouped", "packed"]
# Steps without an error before a bound rises, at first and at most.
_PATIENCE, _MOST_PATIENCE = 32, 4096
_FALL, _RISE = 0.75, 1.25


@dataclass
class _Bound:
    """What was found for a class of lengths.

    Attributes:
        failed: number of tokens that did not fit.
        tokens: number of tokens allowed at present; None if all are.
        patience: steps without an error before the bound rises.
        calm: such steps since the last error or rise.
    """

    failed: int
    tokens: float | None
    patience: int = _PATIENCE
    calm: int = 0


class TokenBudget:
    """Bounds of the micro-batches of one process."""

    def __init__(self, samples: int | None, tokens: int | None) -> None:
        """Start with the bounds that were asked for.

        Args:
            samples: largest number of samples; None for no bound.
            tokens: largest number of tokens, R L; None for no bound.
        """
        self._samples = samples
        self._tokens = tokens
        self._found: dict[int, _Bound] = {}

    def allows(self, samples: int, rows: int, length: int) -> bool:
        """Whether a micro-batch may be made; one of a single sample always may.

        Args:
            samples: its number of samples.
            rows: R, its number of rows.
            length: L, tokens of each row.
        """
        if samples <= 1:
            return True
        if self._samples is not None and samples > self._samples:
            return False
        most = [
            bound.tokens
            for number, bound in self._found.items()
            if number <= length.bit_length() and bound.tokens is not None
        ]
        if self._tokens is not None:
            most.append(self._tokens)
        return not most or rows * length <= min(most)

    def failed(self, rows: int, length: int) -> None:
        """A micro-batch did not fit in memory.

        Args:
            rows: R, its number of rows.
            length: L, tokens of each row.
        """
        tokens, number = rows * length, length.bit_length()
        bound = self._found.get(number)
        patience = min(2 * bound.patience, _MOST_PATIENCE) if bound else _PATIENCE
        self._found[number] = _Bound(tokens, _FALL * tokens, patience)

    def fitted(self) -> None:
        """A step of the optimiser was done without an error of this process."""
        for bound in self._found.values():
            if bound.tokens is None:
                continue
            bound.calm += 1
            if bound.calm >= bound.patience:
                bound.calm = 0
                bound.tokens *= _RISE
                if bound.tokens >= bound.failed:
                    bound.tokens = None


def parts(
    lengths: Sequence[int], budget: TokenBudget, batching: Batching
) -> Iterator[tuple[int, int]]:
    """Ranges of samples, of ascending lengths, that are as long as the budget allows.

    Args:
        lengths: tokens of a share's samples, ascending.
        budget: bounds of a micro-batch.
        batching: how samples become rows.
    """
    start = 0
    while start < len(lengths):
        stop, joined = start, 0
        while stop < len(lengths):
            joined += lengths[stop]
            samples = stop - start + 1
            rows, length = (1, joined) if batching == "packed" else (samples, lengths[stop])
            if not budget.allows(samples, rows, length):
                break
            stop += 1
        yield start, stop
        start = stop
