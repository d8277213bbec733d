"""The processes of one launch (`accelerate launch`, `torchrun`) as one worker.

Process 0 leads: it alone talks to the study's storage, and tells the others what to do next. What
they do together ends the same way on all of them: where one fails, all raise its error.
"""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from torch import distributed

from mordal_optuna.errors import ConfigError, MordalError, ProcessError
from mordal_optuna.processes.launch import launched
from mordal_optuna.processes.outages import is_outage, outage

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

# The leader may be busy, or wait for other workers, for as long as it likes.
_PATIENCE = datetime.timedelta(days=30)


class Processes:
    """All processes of this launch; one where nothing was launched."""

    def __init__(self, group: Any = None) -> None:
        """Speak over a process group.

        Args:
            group: None where there is one process.
        """
        self._group = group

    @classmethod
    def join(cls) -> Processes:
        """Join the launch's other processes, whose default group must be there.

        Raises:
            ConfigError: if a launcher started several that do not know of one another.
        """
        world = launched()
        if world == 1:
            return cls()
        if not distributed.is_initialized() or distributed.get_world_size() != world:
            raise ConfigError(
                [
                    f"launch: {world} processes were started, but torch.distributed knows of "
                    "none or of others; start them by `accelerate launch` or `torchrun`"
                ]
            )
        # Objects travel between CPUs, and are waited for longer than gradients are.
        return cls(distributed.new_group(backend="gloo", timeout=_PATIENCE))

    @property
    def rank(self) -> int:
        """This process's number; 0 leads."""
        return int(distributed.get_rank(self._group)) if self._group else 0

    @property
    def world_size(self) -> int:
        """How many there are."""
        return int(distributed.get_world_size(self._group)) if self._group else 1

    @property
    def is_main(self) -> bool:
        """Whether this process talks to the storage."""
        return self.rank == 0

    def broadcast(self, value: T) -> T:
        """The leader's value, on every process."""
        if self.world_size == 1:
            return value
        held = [value]
        distributed.broadcast_object_list(held, src=0, group=self._group)
        return held[0]

    def gather(self, value: T) -> list[T]:
        """Every process's value, by rank, on every process."""
        if self.world_size == 1:
            return [value]
        held: list[Any] = [None] * self.world_size
        distributed.all_gather_object(held, value, group=self._group)
        return held

    def run_on_all(self, work: Callable[[], T]) -> T:
        """Do a piece of work that every process does.

        Args:
            work: must not wait for another process that may have failed.

        Raises:
            MordalError: the error of the first process that failed, on all of them.
            InfrastructureError: for an outage, which would not be known without its cause.
            ProcessError: for an error of another kind on another process.
        """
        if self.world_size == 1:
            return work()
        found: T | None = None
        failure: Exception | None = None
        try:
            found = work()
        except Exception as error:  # noqa: BLE001 - raised below, once all others know of it
            failure = error
        self.raise_any(failure)
        return found  # type: ignore[return-value]

    def raise_any(self, failure: Exception | None) -> None:
        """Raise on all processes where one has failed.

        Args:
            failure: this process's own.
        """
        if self.world_size == 1:
            if failure:
                raise failure
            return
        own = _local(failure)
        found = [_named(rank, e) for rank, e in enumerate(self.gather(own))]
        if failure is not None and isinstance(own, str):
            raise failure  # a fault of the program: its own trace tells most
        first = next((error for error in found if error), None)
        if first is not None:
            raise first from failure


def _local(failure: Exception | None) -> MordalError | str | None:
    if failure is None:
        return None
    if is_outage(failure):
        return outage(failure)  # now: its cause does not travel
    return failure if isinstance(failure, MordalError) else f"{type(failure).__name__}: {failure}"


def _named(rank: int, failure: MordalError | str | None) -> MordalError | None:
    return ProcessError(rank, failure) if isinstance(failure, str) else failure
