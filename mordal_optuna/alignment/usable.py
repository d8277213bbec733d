"""What a candidate's samples turned out to be when they were tokenised: too long, or unusable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mordal_optuna.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# Number of unusable samples that an error or a note shows.
_NAMED = 2


@dataclass(frozen=True)
class Checked:
    """What one rank found in a range of samples.

    Attributes:
        longest: length of the longest sample in tokens, before cutting.
        unusable: reasons why samples cannot be trained on, by their positions.
    """

    longest: int
    unusable: Mapping[int, str]


class Findings:
    """What was found in all samples up to a candidate's position.

    Attributes:
        longest: length of the longest sample in tokens, before cutting.
        skipped: number of samples that are skipped because they cannot be trained on.
    """

    def __init__(self, allowed: float, full_samples: int) -> None:
        """Start with no samples.

        Args:
            allowed: largest share of D that may be skipped, 0..1.
            full_samples: D, number of samples of a full alignment.
        """
        self.longest = 0
        self.skipped = 0
        self._allowed = allowed
        self._full_samples = full_samples
        self._reasons: dict[int, str] = {}

    def resume(self, longest: int, skipped: int) -> None:
        """Go on from a checkpoint.

        Args:
            longest: length of the longest sample up to it.
            skipped: number of samples that were skipped up to it.
        """
        self.longest, self.skipped, self._reasons = longest, skipped, {}

    def add(self, found: Iterable[Checked], until: int) -> None:
        """Add what all ranks found in the following samples.

        Args:
            found: findings of every rank.
            until: position after the last sample.

        Raises:
            DataError: if more samples cannot be trained on than may be skipped, or more than half
                of the samples so far.
        """
        for one in found:
            self.longest = max(self.longest, one.longest)
            self.skipped += len(one.unusable.keys() - self._reasons.keys())
            self._reasons.update(one.unusable)
        if self.skipped > min(self._allowed * self._full_samples, until / 2):
            raise DataError(
                "alignment",
                f"{self.skipped} of the first {until} samples cannot be trained on, such as "
                f"{self._named()}; skip_unusable allows {100 * self._allowed:g} % of "
                f"{self._full_samples}",
            )

    def note(self) -> str | None:
        """A line about the samples that were skipped since the last checkpoint; None for none."""
        if not self._reasons:
            return None
        return f"skipped {len(self._reasons)} samples that cannot be trained on: {self._named()}"

    def _named(self) -> str:
        return "; ".join(self._reasons[n] for n in sorted(self._reasons)[:_NAMED])
