"""Where the time of a study went, added up from what is stored with each measured rung."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mordal_optuna.search.curves import Measurement
    from mordal_optuna.search.tasks import PartialMeasurement

# Names under which seconds are stored with a rung, and what they were spent on.
PARTS = {
    "loading": "loading models and checkpoints",
    "checking": "tokenising and checking samples",
    "encoding": "encoding images",
    "training": "training steps",
    "waiting": "waiting for training data",
    "saving": "saving checkpoints",
    "reading": "scoring: waiting for documents",
    "generating": "scoring: generating answers",
    "judging": "scoring: judging answers",
    "other": "other",
}
# The name of the seconds spent before any rung.
COMPARING = "comparing"
# What was computed in the training: tokens without padding and with it, floating-point operations,
# and those that were possible at the device's peak.
_COUNTS = ("tokens", "computed", "operations", "possible")


@dataclass(frozen=True)
class Times:
    """Device-seconds of a study by part, and what its training reached in them.

    Attributes:
        seconds: device-seconds by part: `comparing`, then the names of `PARTS`.
        counts: tokens and operations of the training, by name; without those that are unknown.
        rungs: number of measured rungs with times.
        without: number of measured rungs without, such as those of older versions.
    """

    seconds: Mapping[str, float] = field(default_factory=dict)
    counts: Mapping[str, float] = field(default_factory=dict)
    rungs: int = 0
    without: int = 0

    @property
    def total(self) -> float:
        """Device-seconds of all parts."""
        return sum(self.seconds.values())

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens without padding that were trained on per device-second of training steps."""
        return _ratio(self.counts.get("tokens"), self.seconds.get("training"))

    @property
    def padding(self) -> float | None:
        """Share of padding among the tokens that were computed in training."""
        full = _ratio(self.counts.get("tokens"), self.counts.get("computed"))
        return None if full is None else 1.0 - full

    @property
    def of_peak(self) -> float | None:
        """Share of the device's peak that training steps reached; None if the peak is unknown."""
        return _ratio(self.counts.get("operations"), self.counts.get("possible"))

    @property
    def waiting(self) -> float | None:
        """Share of the training during which the device waited for data."""
        parts = [self.seconds.get(name, 0.0) for name in ("waiting", "training", "encoding")]
        return _ratio(parts[0], sum(parts))

    def to_json(self) -> dict[str, Any]:
        """Plain values, as printed by `mordal run --json`."""
        return {
            "seconds": dict(self.seconds),
            "total": self.total,
            "training": {
                "tokens": self.counts.get("tokens"),
                "tokens_per_second": self.tokens_per_second,
                "of_peak": self.of_peak,
                "padding": self.padding,
                "waiting": self.waiting,
            },
            "rungs": self.rungs,
            "rungs_without": self.without,
        }


def times(rungs: Iterable[Measurement | PartialMeasurement], comparing: float) -> Times:
    """Add up what is stored with measured rungs.

    Args:
        rungs: all measurements that the study has spent something on.
        comparing: device-seconds of the comparison of models.
    """
    stored = [rung.time for rung in rungs]
    known = [time for time in stored if time]
    seconds = {name: sum(time.get(name, 0.0) for time in known) for name in PARTS}
    counts = {name: sum(time.get(name, 0.0) for time in known) for name in _COUNTS}
    return Times(
        {COMPARING: comparing, **seconds},
        {name: value for name, value in counts.items() if value},
        len(known),
        len(stored) - len(known),
    )


def _ratio(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None
