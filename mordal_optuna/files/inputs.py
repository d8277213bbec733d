"""Digests of a study's inputs: alignment data, tasks and models.

The digests are computed when a study starts and compared with those stored when it began. Before
each rung its inputs are checked again: sizes and times of files first, and content only where
these differ.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from mordal_optuna.errors import InputsChangedError, MordalError
from mordal_optuna.processes.outages import is_outage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from mordal_optuna.pool import Candidate

# Name of the alignment data; other parts are named `<kind>:<name of the model or task>`.
DATA = "data"
# Number of hexadecimal digits of a digest that are stored with a study.
_DIGITS = 16
_TASK_ASPECTS = {
    "documents": "its documents",
    "prompt": "its prompt",
    "metric": "its metric",
    "lmms-eval": "lmms-eval's version",
}


class Part(Protocol):
    """An input of a study, such as a model, in the state in which it was read."""

    @property
    def digests(self) -> Mapping[str, str]:
        """Digest of the content by aspect."""
        ...

    def unchanged(self, samples: int) -> bool:
        """Whether sizes and times of the files that a rung needs are as recorded.

        Args:
            samples: number of alignment samples at the rung.
        """
        ...


@dataclass(frozen=True)
class Change:
    """An input that changed after a study began.

    Attributes:
        part: `data`, `task:NAME`, `vision_encoder:NAME` or `llm:NAME`.
        aspect: changed aspect, such as weights, or a file name; empty if the part is unreadable.
        problem: reason why the part cannot be read; empty if it can.
    """

    part: str
    aspect: str
    problem: str = ""

    def __str__(self) -> str:
        """The change as shown to users, such as `the weights of clip-s`."""
        kind, _, name = self.part.partition(":")
        if self.problem:
            what = {DATA: "the alignment data", "task": f"the task {name}"}.get(kind, name)
            return f"{what} ({self.problem})"
        if kind == DATA:
            what = "its images" if self.aspect == "images" else self.aspect
            return f"the alignment data ({what})"
        if kind == "task":
            return f"the task {name} ({_TASK_ASPECTS.get(self.aspect, self.aspect)})"
        return f"the {self.aspect} of {name}"


@dataclass(frozen=True)
class Inputs:
    """Digests of all inputs of a study.

    Attributes:
        parts: digest by part and aspect, 16 hexadecimal digits each.
        older: the same of parts that older versions identified otherwise, in their way.
    """

    parts: Mapping[str, Mapping[str, str]]
    older: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @staticmethod
    def of(parts: Mapping[str, Part]) -> Inputs:
        """Shorten full digests to the stored digits.

        Args:
            parts: inputs by part name.
        """
        older = {name: getattr(part, "older", None) for name, part in parts.items()}
        return Inputs(
            {name: _shortened(part.digests) for name, part in parts.items()},
            {name: _shortened(digests) for name, digests in older.items() if digests},
        )

    def to_json(self) -> dict[str, dict[str, str]]:
        """The digests as stored with a study."""
        return {name: dict(digests) for name, digests in self.parts.items()}

    def changes(self, now: Inputs) -> list[Change]:
        """Differences from later inputs, in the parts that both hold.

        Args:
            now: digests of the same study's inputs at a later time.
        """
        changes = []
        for name in sorted(self.parts.keys() & now.parts.keys()):
            before, after = self.parts[name], now.parts[name]
            # Older versions identified a model on the hub by its commit, which no part has now.
            if "commit" in before and name in now.older:
                after = now.older[name]
            changes += [
                Change(name, aspect)
                for aspect in sorted(before.keys() | after.keys())
                if before.get(aspect) != after.get(aspect)
            ]
        return changes


def _shortened(digests: Mapping[str, str]) -> dict[str, str]:
    return {aspect: digest[:_DIGITS] for aspect, digest in digests.items()}


class Watch:
    """Detects changes of a study's inputs while it runs.

    Attributes:
        inputs: digests of the inputs when they were opened.
    """

    def __init__(
        self, study: str, parts: Mapping[str, Part], readers: Mapping[str, Callable[[], Part]]
    ) -> None:
        """Record the inputs of a study.

        Args:
            study: name of the study.
            parts: opened inputs by part name.
            readers: functions that read an input again, by part name.
        """
        self._study = study
        self._parts = dict(parts)
        self._readers = readers
        self.inputs = Inputs.of(parts)

    def check(self, parts: Iterable[str], samples: int) -> None:
        """Check that inputs are unchanged.

        Args:
            parts: names of the parts.
            samples: number of alignment samples at the rung that needs them.

        Raises:
            InputsChangedError: if a part changed, or can no longer be read.
            OSError: if a part cannot be read because of an outage of its disk or drive.
        """
        changes: list[Change] = []
        for name in parts:
            changes += self._changes(name, samples)
        if changes:
            raise InputsChangedError(self._study, changes)

    def check_candidate(self, candidate: Candidate, tasks: Iterable[str], samples: int) -> None:
        """Check all inputs of a candidate's rung.

        Args:
            candidate: the candidate.
            tasks: names of the tasks on which it is scored.
            samples: number of alignment samples at the rung.

        Raises:
            InputsChangedError: if a part changed, or can no longer be read.
            OSError: if a part cannot be read because of an outage of its disk or drive.
        """
        self.check([*candidate_parts(candidate), *(f"task:{name}" for name in tasks)], samples)

    def _changes(self, name: str, samples: int) -> list[Change]:
        if self._parts[name].unchanged(samples):
            return []
        try:
            part = self._readers[name]()
        except (MordalError, OSError) as error:
            if is_outage(error):
                raise
            return [Change(name, "", str(error))]
        now = Inputs.of({name: part})
        changes = self.inputs.changes(now)
        if not changes:
            self._parts[name] = part  # touched or copied: same content
        return changes


def candidate_parts(candidate: Candidate) -> tuple[str, str, str]:
    """Names of the parts that a candidate's training depends on.

    Args:
        candidate: the candidate.
    """
    return (DATA, f"vision_encoder:{candidate.vision_encoder}", f"llm:{candidate.llm}")
