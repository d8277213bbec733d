"""What shapes a study's scores beside its configuration: data, tasks, models, by their digests.

Digests are taken of content when a study starts and compared with those it began with. Before
each rung the parts it depends on are looked at again: first sizes and times of files, then, only
where one differs, content.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from mordal_optuna.errors import InputsChangedError, MordalError
from mordal_optuna.processes.outages import is_outage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from mordal_optuna.pool import Candidate

# Names of parts: the alignment data; others have a model's or a task's name behind a colon.
DATA = "data"
# Hexadecimal digits of a digest that are kept with a study.
_DIGITS = 16
_OF_TASKS = {
    "documents": "its documents",
    "prompt": "its prompt",
    "metric": "its metric",
    "lmms-eval": "lmms-eval's version",
}


class Part(Protocol):
    """A part of the inputs as it was when it was read."""

    @property
    def digests(self) -> Mapping[str, str]:
        """Of its content, by aspect."""
        ...

    def unchanged(self, samples: int) -> bool:
        """Whether its files look as they did, as far as a rung of so many samples needs them."""
        ...


@dataclass(frozen=True)
class Change:
    """What has changed since a study began.

    Attributes:
        part: `data`, `task:NAME`, `vision_encoder:NAME` or `llm:NAME`.
        aspect: what of it, such as weights; a file's name; or empty.
        problem: why it cannot be read; empty where it can.
    """

    part: str
    aspect: str
    problem: str = ""

    def __str__(self) -> str:
        """As shown to people, such as `the weights of clip-s`."""
        kind, _, name = self.part.partition(":")
        if self.problem:
            what = {DATA: "the alignment data", "task": f"the task {name}"}.get(kind, name)
            return f"{what} ({self.problem})"
        if kind == DATA:
            what = "its images" if self.aspect == "images" else self.aspect
            return f"the alignment data ({what})"
        if kind == "task":
            return f"the task {name} ({_OF_TASKS.get(self.aspect, self.aspect)})"
        return f"the {self.aspect} of {name}"


@dataclass(frozen=True)
class Inputs:
    """Digests by part and aspect.

    Attributes:
        parts: 16 hexadecimal digits each, by part and then by aspect.
    """

    parts: Mapping[str, Mapping[str, str]]

    @staticmethod
    def of(parts: Mapping[str, Mapping[str, str]]) -> Inputs:
        """Cut digests to the digits that are kept."""
        return Inputs(
            {
                name: {aspect: digest[:_DIGITS] for aspect, digest in digests.items()}
                for name, digests in parts.items()
            }
        )

    def to_json(self) -> dict[str, dict[str, str]]:
        """Plain values, as stored with a study."""
        return {name: dict(digests) for name, digests in self.parts.items()}

    def changes(self, now: Inputs) -> list[Change]:
        """What is another now; only parts that both have are compared.

        Args:
            now: the present inputs.
        """
        found = []
        for name in sorted(self.parts.keys() & now.parts.keys()):
            before, after = self.parts[name], now.parts[name]
            found += [
                Change(name, aspect)
                for aspect in sorted(before.keys() | after.keys())
                if before.get(aspect) != after.get(aspect)
            ]
        return found


class Watch:
    """The inputs as they were when they were opened, and whether they still are."""

    def __init__(
        self, study: str, parts: Mapping[str, Part], readers: Mapping[str, Callable[[], Part]]
    ) -> None:
        """Watch what a study works with.

        Args:
            study: its name.
            parts: as they were opened.
            readers: read a part anew, by its name.
        """
        self._study = study
        self._parts = dict(parts)
        self._readers = readers
        self.inputs = Inputs.of({name: part.digests for name, part in parts.items()})

    def check(self, parts: Iterable[str], samples: int) -> None:
        """Look at parts again.

        Args:
            parts: their names.
            samples: of the rung they are needed for.

        Raises:
            InputsChangedError: if one is another now, or cannot be read any more.
            OSError: in an outage of the disk or drive it is on.
        """
        changes: list[Change] = []
        for name in parts:
            changes += self._changes(name, samples)
        if changes:
            raise InputsChangedError(self._study, changes)

    def check_candidate(self, candidate: Candidate, tasks: Iterable[str], samples: int) -> None:
        """The same for all that a candidate's rung depends on.

        Args:
            candidate: the pair.
            tasks: names of the tasks it is scored on.
            samples: the rung.
        """
        self.check([*candidate_parts(candidate), *(f"task:{name}" for name in tasks)], samples)

    def _changes(self, name: str, samples: int) -> list[Change]:
        if self._parts[name].unchanged(samples):
            return []
        try:
            found = self._readers[name]()
        except (MordalError, OSError) as error:
            if is_outage(error):
                raise
            return [Change(name, "", str(error))]
        now = Inputs.of({name: found.digests})
        changes = self.inputs.changes(now)
        if not changes:
            self._parts[name] = found  # touched or copied: its content is the same
        return changes


def candidate_parts(candidate: Candidate) -> tuple[str, str, str]:
    """Names of the parts that shape a candidate's training."""
    return (DATA, f"vision_encoder:{candidate.vision_encoder}", f"llm:{candidate.llm}")
