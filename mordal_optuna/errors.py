"""All errors of this package; each message is one sentence: what was given, what is allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


class MordalError(Exception):
    """Base class of all errors that the package raises on purpose.

    Errors keep their class, message and attributes when they are pickled for another process.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        """Rebuild from message and attributes, since subclasses take other arguments."""
        return _rebuild, (type(self), str(self), self.__dict__)


def _rebuild(kind: type[MordalError], message: str, attributes: dict[str, Any]) -> MordalError:
    error = kind.__new__(kind)
    Exception.__init__(error, message)
    error.__dict__.update(attributes)
    return error


class ConfigError(MordalError, ValueError):
    """One or more keys of a study file have unusable values.

    Attributes:
        problems: one sentence per problem, with the key, the value and what is allowed.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


class UnreachableStorageError(ConfigError):
    """The study's database does not answer now; the same command may succeed later."""


class StudyMismatchError(MordalError):
    """A study of the same name exists with another configuration.

    Attributes:
        study: name of the study.
        differences: one line per key whose value differs.
    """

    def __init__(self, study: str, differences: list[str], *, grown: bool = False) -> None:
        """With `grown`, only models were added or removed, so that scores can be taken over."""
        self.study = study
        self.differences = differences
        lines = "\n".join(f"  {line}" for line in differences)
        scores = f" --grow-from {study}`, which takes over the scores" if grown else "`"
        super().__init__(
            f"study {study!r} exists with another configuration; run it with the stored one, or "
            f"this one under another name, by `--as NAME{scores}:\n{lines}"
        )


class InputsChangedError(MordalError):
    """Data, a task or a model changed in place after a study began; no candidate is at fault.

    Attributes:
        study: name of the study.
        changes: the changes, each a `files.inputs.Change`.
    """

    def __init__(self, study: str, changes: Sequence[object], remedy: str = "put it back") -> None:
        self.study = study
        self.changes = tuple(changes)
        named = "; ".join(map(str, changes))
        super().__init__(f"study {study!r} began with other inputs; changed: {named}; {remedy}")


class BusyError(MordalError):
    """Another process works in the same folder, or on the same study.

    Attributes:
        place: the folder or study in use, with its preposition.
    """

    def __init__(self, place: str, advice: str) -> None:
        self.place = place
        super().__init__(f"another process works {place}; {advice}")


class ModelError(MordalError):
    """A model of the pool cannot be loaded, is not supported, or cannot be joined to another.

    Attributes:
        model: name or location of the model.
    """

    def __init__(self, model: str, reason: str) -> None:
        self.model = model
        super().__init__(f"model {model!r}: {reason}")


class DataError(MordalError):
    """Alignment data or task data is missing, broken, or cannot be trained on.

    Attributes:
        source: file, folder or sample with the problem.
    """

    def __init__(self, source: str, reason: str) -> None:
        self.source = source
        super().__init__(f"data {source!r}: {reason}")


class UnusableError(DataError):
    """One sample of the alignment data cannot be trained on; `skip_unusable` may allow that."""


class CheckpointError(MordalError):
    """A checkpoint cannot be written, or its content differs from what was written.

    Attributes:
        path: folder of the checkpoint.
    """

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        super().__init__(f"checkpoint {path!r}: {reason}")


class TrainingError(MordalError):
    """Training a candidate failed.

    Attributes:
        samples: number of alignment samples seen before the failure.
    """

    def __init__(self, samples: int, reason: str) -> None:
        self.samples = samples
        super().__init__(f"training after {samples} samples: {reason}")


class TaskError(MordalError):
    """An lmms-eval task cannot be built, or its results lack the declared metric.

    Attributes:
        task: name of the task.
    """

    def __init__(self, task: str, reason: str) -> None:
        self.task = task
        super().__init__(f"task {task!r}: {reason}")


class EvaluationError(MordalError):
    """Scoring a candidate failed; there is no score.

    Attributes:
        task: name of the task, or names of several.
    """

    def __init__(self, task: str, reason: str) -> None:
        self.task = task
        super().__init__(f"evaluation on {task!r}: {reason}")


class SimilarityError(MordalError):
    """A similarity cannot be computed or a similarity matrix cannot be clustered.

    Attributes:
        pair: names of the two models, the same name twice for one model; None if the problem
            concerns no particular models.
    """

    def __init__(self, reason: str, pair: tuple[str, str] | None = None) -> None:
        self.pair = pair
        prefix = f"similarity of {pair[0]!r} and {pair[1]!r}: " if pair else "similarity: "
        super().__init__(prefix + reason)


class SearchError(MordalError, ValueError):
    """A plan, curve, history or option of the search is invalid."""


class GridError(MordalError):
    """A grid file is malformed, or lacks a measurement that a replayed search needs."""


class NoGridError(GridError):
    """A file holds something other than a grid."""


class RivalError(MordalError):
    """A rival's score cannot be computed from the given arrays, texts or options."""


class ZooError(MordalError):
    """An embedded pool cannot be built, or an unknown part of it was requested."""


class StoreError(MordalError):
    """The study's database cannot be used for claims or scores.

    Attributes:
        address: address of the database, without the password.
        mend: whether the cause is known and does not pass by itself.
    """

    def __init__(self, address: str, kind: str, *, mend: bool = False) -> None:
        self.address = address
        self.mend = mend
        super().__init__(
            f"database {address!r} cannot be used ({kind}); it must be the study's own, which "
            "this worker may write to"
        )


class LeaseLostError(MordalError):
    """A worker's lease on a candidate ran out, and another worker continues the candidate.

    Attributes:
        candidate: the candidate, as `encoder + llm`.
    """

    def __init__(self, candidate: str) -> None:
        self.candidate = candidate
        super().__init__(
            f"{candidate}: this worker was silent for longer than its lease, and another worker "
            "continues with it; what this worker did since its last report is discarded"
        )


class ProcessError(MordalError):
    """Another process of this launch failed.

    Attributes:
        rank: rank of the failed process.
    """

    rank: int | None

    def __init__(self, rank: int, reason: str) -> None:
        self.rank = rank
        super().__init__(f"process {rank} of this launch failed: {reason}")


class ProcessEndedError(ProcessError):
    """Another process of this launch was interrupted or cannot be reached; the launch must end.

    No candidate is at fault.

    Attributes:
        rank: rank of the process; None if it is not known.
    """

    def __init__(self, rank: int | None, reason: str) -> None:
        MordalError.__init__(
            self,
            f"process {rank} of this launch has ended: {reason}"
            if rank is not None
            else f"another process of this launch has ended or cannot be reached: {reason}",
        )
        self.rank = rank


class InfrastructureError(MordalError):
    """Storage, disk, network or device failed, perhaps only for a time; no candidate is at fault.

    Attributes:
        reason: what failed.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"outage of storage, disk, network or device: {reason}")


class LastingOutageError(InfrastructureError):
    """An outage lasted longer than a worker waits.

    Attributes:
        reason: what failed in the last attempt, how often, and how to continue.
        tries: number of failed attempts in a row.
    """

    def __init__(self, reason: str, tries: int) -> None:
        super().__init__(
            f"{reason}; it failed {tries} times in a row, with growing pauses in between; once it "
            "is fixed, run the same command again"
        )
        self.tries = tries


class Preempted(SystemExit):  # noqa: N818 - it ends the process, as SystemExit does
    """The process was asked to end by SIGTERM; what it leaves, a later one continues.

    No error of the program, so no `except Exception` stops it. The exit status is 75
    (`EX_TEMPFAIL`): try again.
    """

    STATUS = 75

    def __init__(self) -> None:
        super().__init__("the process was asked to end (SIGTERM)")
        self.code = self.STATUS


class FailedSearchError(MordalError):
    """A search cannot continue, since its candidates fail.

    Attributes:
        reason: reason of the latest failure.
    """

    def __init__(self, what: str, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"{what} ({reason}); fix that, clear the failures with `mordal retry STUDY`, and "
            "continue with `mordal run STUDY`"
        )
