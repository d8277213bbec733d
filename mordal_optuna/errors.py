"""Every error of this package. Each says in one sentence what was given and what is allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


class MordalError(Exception):
    """Base class: catch this to catch everything the package raises on purpose.

    Errors travel between processes whole: their attributes go with them.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        """Rebuild from sentence and attributes; a subclass's arguments are not its sentence."""
        return _rebuilt, (type(self), str(self), self.__dict__)


def _rebuilt(kind: type[MordalError], sentence: str, attributes: dict[str, Any]) -> MordalError:
    error = kind.__new__(kind)
    Exception.__init__(error, sentence)
    error.__dict__.update(attributes)
    return error


class ConfigError(MordalError, ValueError):
    """One or more keys of a study file cannot be used.

    Attributes:
        problems: one sentence per problem, each naming the key, the value and what is allowed.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


class StudyMismatchError(MordalError):
    """A study of this name exists with another configuration.

    Attributes:
        study: name of the study.
        differences: one line per key that differs.
    """

    def __init__(self, study: str, differences: list[str]) -> None:
        self.study = study
        self.differences = differences
        lines = "\n".join(f"  {line}" for line in differences)
        super().__init__(
            f"study {study!r} exists with another configuration; run it with the stored one, or "
            f"this one under another name, by `--as NAME`:\n{lines}"
        )


class InputsChangedError(MordalError):
    """Data, a task or a model changed in place since a study began; no candidate is at fault.

    Attributes:
        study: name of the study.
        changes: what has changed, `inputs.Change` each.
    """

    def __init__(self, study: str, changes: Sequence[object], way_on: str = "put it back") -> None:
        self.study = study
        self.changes = tuple(changes)
        named = "; ".join(map(str, changes))
        super().__init__(f"study {study!r} began with other inputs; changed: {named}; {way_on}")


class BusyError(MordalError):
    """Another process works in the same folder, or on the same study.

    Attributes:
        place: what is in use.
    """

    def __init__(self, place: str, advice: str) -> None:
        self.place = place
        super().__init__(f"another process works {place}; {advice}")


class ModelError(MordalError):
    """A model of the pool cannot be loaded, is not supported, or cannot be joined to its partner.

    Attributes:
        model: name or location of the model.
    """

    def __init__(self, model: str, reason: str) -> None:
        self.model = model
        super().__init__(f"model {model!r}: {reason}")


class DataError(MordalError):
    """Alignment data or task data is missing, broken, or cannot be trained on.

    Attributes:
        source: the file, folder or sample at fault.
    """

    def __init__(self, source: str, reason: str) -> None:
        self.source = source
        super().__init__(f"data {source!r}: {reason}")


class CheckpointError(MordalError):
    """A checkpoint cannot be written or does not read back as it was written.

    Attributes:
        path: folder of the checkpoint.
    """

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        super().__init__(f"checkpoint {path!r}: {reason}")


class TrainingError(MordalError):
    """Training a candidate went wrong.

    Attributes:
        samples: number of alignment samples seen when it went wrong.
    """

    def __init__(self, samples: int, reason: str) -> None:
        self.samples = samples
        super().__init__(f"training after {samples} samples: {reason}")


class TaskError(MordalError):
    """An lmms-eval task cannot be built, or its declared metric is not among its results.

    Attributes:
        task: name of the task.
    """

    def __init__(self, task: str, reason: str) -> None:
        self.task = task
        super().__init__(f"task {task!r}: {reason}")


class EvaluationError(MordalError):
    """Scoring a candidate failed; there is no score.

    Attributes:
        task: name of the task.
    """

    def __init__(self, task: str, reason: str) -> None:
        self.task = task
        super().__init__(f"evaluation on {task!r}: {reason}")


class SimilarityError(MordalError):
    """A similarity cannot be computed or a similarity matrix cannot be clustered.

    Attributes:
        pair: names of the two models, where one pair is at fault.
    """

    def __init__(self, reason: str, pair: tuple[str, str] | None = None) -> None:
        self.pair = pair
        prefix = f"similarity of {pair[0]!r} and {pair[1]!r}: " if pair else "similarity: "
        super().__init__(prefix + reason)


class SearchError(MordalError, ValueError):
    """A plan, curve or history breaks the rules of the search."""


class GridError(MordalError):
    """A grid file breaks its format, or lacks what a replayed search asks for."""


class RivalError(MordalError):
    """A rival's score cannot be computed from the arrays or texts that were given."""


class ZooError(MordalError):
    """The embedded pool cannot be built, or an unknown part of it was asked for."""


class StoreError(MordalError):
    """The study's database cannot be used for claims.

    Attributes:
        address: its address, without the password.
    """

    def __init__(self, address: str, kind: str) -> None:
        self.address = address
        super().__init__(
            f"database {address!r} cannot be used ({kind}); it must be the study's own, which "
            "this worker may write to"
        )


class LeaseLostError(MordalError):
    """A worker was thought dead, and another one goes on with its candidate.

    Attributes:
        candidate: the pair.
    """

    def __init__(self, candidate: str) -> None:
        self.candidate = candidate
        super().__init__(
            f"{candidate}: this worker was silent for longer than its lease, and another goes on "
            "with it; what this one did since its last report is left out"
        )


class ProcessError(MordalError):
    """Another process of this launch failed.

    Attributes:
        rank: its number.
    """

    def __init__(self, rank: int, reason: str) -> None:
        self.rank = rank
        super().__init__(f"process {rank} of this launch failed: {reason}")


class InfrastructureError(MordalError):
    """Storage, disk, network or device failed; no candidate is at fault, and it may pass.

    Attributes:
        reason: what failed.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"outage of storage, disk, network or device: {reason}")


class LastingOutageError(InfrastructureError):
    """An outage did not pass while a worker waited for it.

    Attributes:
        reason: what failed at last.
        tries: how often in a row.
    """

    def __init__(self, reason: str, tries: int) -> None:
        super().__init__(
            f"{reason}; it failed {tries} times in a row, with growing pauses in between; once it "
            "is mended, the same command goes on"
        )
        self.tries = tries


class FailedSearchError(MordalError):
    """A search cannot go on, since its candidates fail.

    Attributes:
        reason: of the newest failure.
    """

    def __init__(self, what: str, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"{what} ({reason}); mend that, then `mordal retry STUDY` clears the failures and "
            "`mordal run STUDY` goes on"
        )
