"""The processes of one launch (`accelerate launch`, `torchrun`), numbered by rank.

Rank 0 is the main process: it alone uses the study's storage and decides what is done next. Work
that all ranks share ends the same way on all of them: if one rank fails, all raise its error.
"""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from torch import distributed

from mordal_optuna.errors import ConfigError, MordalError, ProcessError
from mordal_optuna.processes.launch import launched_world_size
from mordal_optuna.processes.outages import is_outage, outage

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

# Rank 0 may compute alone, or wait for other workers of the study, for days.
_TIMEOUT = datetime.timedelta(days=30)


class Processes:
    """All ranks of this launch; a single one without a launcher."""

    def __init__(self, group: Any = None) -> None:
        """Use a process group.

        Args:
            group: `torch.distributed` group of all ranks; None for a single process.
        """
        self._group = group

    @classmethod
    def join(cls) -> Processes:
        """Open a group of all ranks; call it once per process and hand the result on.

        The default process group must exist.

        Raises:
            ConfigError: if a launcher started several processes without torch.distributed.
        """
        world = launched_world_size()
        if world == 1:
            return cls()
        if not distributed.is_initialized() or distributed.get_world_size() != world:
            raise ConfigError(
                [
                    f"launch: {world} processes were started, but torch.distributed has "
                    "another number; start them with `accelerate launch` or `torchrun`"
                ]
            )
        # gloo: objects are exchanged between CPUs. Gradients have a group of their own, with a
        # shorter timeout.
        return cls(distributed.new_group(backend="gloo", timeout=_TIMEOUT))

    @property
    def rank(self) -> int:
        """This process's rank, from 0."""
        return int(distributed.get_rank(self._group)) if self._group else 0

    @property
    def world_size(self) -> int:
        """Number of ranks."""
        return int(distributed.get_world_size(self._group)) if self._group else 1

    @property
    def is_main(self) -> bool:
        """Whether this process is rank 0."""
        return self.rank == 0

    def broadcast(self, value: T) -> T:
        """Give every rank the value of rank 0; all ranks call it at the same point.

        Args:
            value: picklable object; only the one on rank 0 counts.

        Returns:
            Rank 0's value.
        """
        if self.world_size > 1:
            buffer = [value]
            distributed.broadcast_object_list(buffer, src=0, group=self._group)
            value = buffer[0]
        return value

    def send(self, message: object) -> None:
        """Rank 0: send a message, which every other rank takes by `receive`.

        Args:
            message: picklable object.
        """
        self.broadcast(message)

    def receive(self) -> Any:
        """Other ranks: wait for the next message of rank 0."""
        nothing: object = None
        return self.broadcast(nothing)

    def gather(self, value: T) -> list[T]:
        """Give every rank the values of all ranks.

        Args:
            value: picklable object of this rank.

        Returns:
            The values, in the order of ranks.
        """
        if self.world_size == 1:
            return [value]
        buffer: list[Any] = [None] * self.world_size
        distributed.all_gather_object(buffer, value, group=self._group)
        return buffer

    def run_on_all(self, work: Callable[[], T]) -> T:
        """Run this rank's part of work that all ranks do, and fail on all if one rank fails.

        Args:
            work: function that waits for other ranks by methods of this class only, since
                another rank may have failed.

        Returns:
            What this rank's work returned.

        Raises:
            MordalError: the error of the lowest rank that failed, on all ranks.
            InfrastructureError: if that error is an outage.
            ProcessError: if another rank failed with an error that is no `MordalError`.
        """
        if self.world_size == 1:
            return work()
        result: T | None = None
        failure: Exception | None = None
        try:
            result = work()
        except Exception as error:  # noqa: BLE001 - raised below, on all ranks
            failure = error
        self.raise_on_all(failure)
        return result  # type: ignore[return-value]

    def run_on_main(self, work: Callable[[], T]) -> T:
        """Run work on rank 0 alone, and give its result to all ranks.

        Args:
            work: returns a picklable object; it is not called on other ranks.

        Returns:
            What the work returned on rank 0.

        Raises:
            MordalError: the error of rank 0, on all ranks; see `run_on_all`.
        """
        result = self.run_on_all(lambda: work() if self.is_main else None)
        return self.broadcast(result)  # type: ignore[return-value]

    def raise_on_all(self, failure: Exception | None) -> None:
        """Raise an error on all ranks if any rank has failed.

        Args:
            failure: this rank's error; None if it did not fail.
        """
        if self.world_size == 1:
            if failure:
                raise failure
            return
        report = _report(failure)
        errors = [_to_error(rank, r) for rank, r in enumerate(self.gather(report))]
        if failure is not None and isinstance(report, str):
            raise failure  # a programming error: its own traceback says most
        first = next((error for error in errors if error), None)
        if first is not None:
            raise first from failure


def _report(failure: Exception | None) -> MordalError | str | None:
    """A rank's failure as it is sent to the others."""
    if failure is None:
        return None
    if is_outage(failure):
        return outage(failure)  # converted here: the cause of an error is not pickled with it
    return failure if isinstance(failure, MordalError) else f"{type(failure).__name__}: {failure}"


def _to_error(rank: int, report: MordalError | str | None) -> MordalError | None:
    return ProcessError(rank, report) if isinstance(report, str) else report
