"""The processes of one launch (`accelerate launch`, `torchrun`), numbered by rank.

Rank 0 is the main process: it alone uses the study's storage and decides what is done next. Work
that all ranks share ends the same way on all of them: if one rank fails, all raise its error.

All ranks make the same exchanges in the same order. A rank that fails makes one exchange instead
of those that it leaves out: it tells the others its error, and in which of the nested works it
ends. The others get the error from the exchange in which they wait, whichever that is, and leave
the same work. So no rank is left waiting, wherever and by whatever error another rank fails.
"""

from __future__ import annotations

import datetime
import pickle
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import distributed

from mordal_optuna.errors import ConfigError, MordalError, ProcessEndedError, ProcessError
from mordal_optuna.processes.launch import launched_world_size
from mordal_optuna.processes.outages import described, is_outage, outage

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

# Between two pieces of work the other ranks wait for rank 0 without a bound: rank 0 may itself
# wait for other workers of the study, which train for days. A process that ends closes its
# connections and is noticed at once; this timeout is for a machine that vanishes.
IDLE_TIMEOUT = datetime.timedelta(days=30)
# Within a piece of work a rank waits for the longest thing that another one does alone: reading
# the images of a new alignment set and the digests of its models from a slow network drive.
WORK_TIMEOUT = datetime.timedelta(hours=24)
# A rank that is interrupted (Ctrl-C) gives the others so long to hear of it, then leaves.
LEAVE_TIMEOUT = datetime.timedelta(seconds=10)

# Kinds of exchanges, to notice ranks that do different things.
_BROADCAST, _GATHER, _END, _CHECK = range(4)


@dataclass(frozen=True)
class Failure:
    """How a rank failed, as the other ranks are told.

    Attributes:
        rank: the rank.
        error: the error that is raised on the others.
        depth: number of the nested works that contain the one that the rank leaves, and itself.
    """

    rank: int
    error: MordalError
    depth: int


@dataclass(frozen=True)
class Envelope:
    """What one rank gives to an exchange.

    Attributes:
        kind: kind of the exchange.
        value: the value; nothing is sent for None.
        failure: why the rank takes part in no further exchange of its work; None if it goes on.
    """

    kind: int
    value: Any = None
    failure: Failure | None = None


class Processes:
    """All ranks of this launch; a single one without a launcher."""

    def __init__(self, idle: Any = None, work: Any = None) -> None:
        """Use process groups.

        Args:
            idle: `torch.distributed` group of all ranks, for exchanges between pieces of work;
                None for a single process.
            work: group of all ranks for exchanges within a piece of work; None for `idle`.
        """
        self._idle = idle
        self._work = work or idle
        self._depth = 0
        # The failure that all ranks know of, until the work that it ends is left.
        self._failure: Failure | None = None
        # Why no exchange is possible any more.
        self._parted: MordalError | None = None

    @classmethod
    def join(cls) -> Processes:
        """Open groups of all ranks; call it once per process and hand the result on.

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
        return cls(
            distributed.new_group(backend="gloo", timeout=IDLE_TIMEOUT),
            distributed.new_group(backend="gloo", timeout=WORK_TIMEOUT),
        )

    @property
    def rank(self) -> int:
        """This process's rank, from 0."""
        return int(distributed.get_rank(self._idle)) if self._idle else 0

    @property
    def world_size(self) -> int:
        """Number of ranks."""
        return int(distributed.get_world_size(self._idle)) if self._idle else 1

    @property
    def is_main(self) -> bool:
        """Whether this process is rank 0."""
        return self.rank == 0

    @property
    def can_exchange(self) -> bool:
        """False while a failure is being raised on all ranks, and once the ranks have parted."""
        return self._failure is None and self._parted is None

    def broadcast(self, value: T) -> T:
        """Give every rank the value of rank 0; all ranks call it at the same point.

        Args:
            value: picklable object; only the one on rank 0 counts.

        Returns:
            Rank 0's value.

        Raises:
            MordalError: the error of a rank that failed instead, as `run_on_all` raises it.
        """
        if self.world_size > 1:
            value = self._exchange(_BROADCAST, value if self.is_main else None)[0]
        return value

    def told(self, failure: BaseException) -> MordalError:
        """An error of this rank as it is raised on the others.

        Args:
            failure: any error.
        """
        if isinstance(failure, Exception):
            return _as_told(self.rank, failure)
        return ProcessEndedError(self.rank, f"it was interrupted ({type(failure).__name__})")

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

        Raises:
            MordalError: the error of a rank that failed instead, as `run_on_all` raises it.
        """
        return [value] if self.world_size == 1 else self._exchange(_GATHER, value)

    def check(self) -> None:
        """Wait until all ranks are here; call it before they wait for each other elsewhere.

        Raises:
            MordalError: the error of a rank that failed instead, as `run_on_all` raises it.
        """
        if self.world_size > 1:
            self._exchange(_CHECK, None)

    def run_on_all(self, work: Callable[[], T]) -> T:
        """Run this rank's part of work that all ranks do, and fail on all if one rank fails.

        The work may contain other such works. An interrupted rank (Ctrl-C) waits for the others
        for seconds only.

        Args:
            work: function that waits for other ranks by methods of this class, or right after
                `check`.

        Returns:
            What this rank's work returned.

        Raises:
            MordalError: the error of the lowest rank that failed, on all ranks.
            InfrastructureError: if that error is an outage.
            ProcessError: if another rank failed with an error that is no `MordalError`.
            ProcessEndedError: if another rank was interrupted, or cannot be reached.
        """
        if self.world_size == 1:
            return work()
        self._depth += 1
        try:
            return self._run(work)
        finally:
            self._depth -= 1

    def run_on_main(self, work: Callable[[], T]) -> T:
        """Run work on rank 0 alone, and give its result to all ranks.

        Args:
            work: returns a picklable object; it is not called on other ranks.

        Returns:
            What the work returned on rank 0.

        Raises:
            MordalError: the error of rank 0, on all ranks; see `run_on_all`.
        """
        return self.run_on_all(lambda: self.broadcast(work() if self.is_main else None))  # type: ignore[return-value]

    def _run(self, work: Callable[[], T]) -> T:
        """Run work and tell the other ranks how it ended."""
        failure: Exception | None = None
        try:
            result = work()
        except Exception as error:  # noqa: BLE001 - raised below, on all ranks
            failure = error
        except BaseException as error:
            self._leave(error)
            raise
        if self._parted:
            raise self._parted from None
        told = self._failure is None
        if told:
            self._tell(failure)
        known = self._failure
        if known is None:
            return result
        if known.depth < self._depth:  # a work around this one ends as well
            raise failure or known.error
        self._failure = None
        # This rank's own error, or a programming error: its own traceback says most.
        own = known.rank == self.rank or not isinstance(failure, MordalError)
        if told and failure and own and not is_outage(failure):
            raise failure
        if failure is None or failure is known.error:
            raise known.error
        raise known.error from failure

    def _tell(self, failure: Exception | None) -> None:
        """Tell the other ranks that this work is done or has failed; learn if one has failed."""
        told = None
        if failure:
            told = Failure(self.rank, _as_told(self.rank, failure), self._depth)
        try:
            self._exchange(_END, None, told)
        except MordalError:
            if self._failure is None:  # the ranks have parted
                raise

    def _leave(self, error: BaseException) -> None:
        """Part from the other ranks after an interrupt; they are told if they listen now."""
        if not self.can_exchange:
            return
        self._parted = self.told(error)
        try:
            self._swap(Envelope(_END, None, Failure(self.rank, self._parted, 1)), LEAVE_TIMEOUT)
        except RuntimeError:
            return  # busy, or interrupted as well: they notice the closed connection

    def _exchange(self, kind: int, value: Any, failure: Failure | None = None) -> list[Any]:
        """Give every rank the values of all ranks, or raise the error of one that has failed."""
        if self._parted:
            raise self._parted
        if self._failure:  # all ranks raise it, so none of them is there
            raise self._failure.error
        try:
            envelopes = self._swap(Envelope(kind, value, failure))
        except RuntimeError as error:
            reason = f"{described(error)[:200]}; its own output says why it ended"
            self._parted = ProcessEndedError(None, reason)
            raise self._parted from None  # not an outage: the launch cannot go on
        failures = [e.failure for e in envelopes if e.failure]
        if not failures and len({e.kind for e in envelopes}) > 1:
            reason = "it has come to another point than the other processes"
            failures = [Failure(self.rank, ProcessError(self.rank, reason), 1)]
        if failures:
            # The outermost work that a rank leaves is left by all.
            known = replace(failures[0], depth=min(f.depth for f in failures))
            if isinstance(known.error, ProcessEndedError):
                self._parted = known.error
            elif self._depth >= known.depth:
                self._failure = known
            raise known.error
        return [e.value for e in envelopes]

    def _swap(self, given: Envelope, timeout: datetime.timedelta | None = None) -> list[Envelope]:
        """All ranks' envelopes; every rank takes part at the same time.

        Raises:
            RuntimeError: if another rank has ended, or is not there after the timeout.
        """
        group = self._work if self._depth else self._idle
        empty = given.value is None and given.failure is None
        content = b"" if empty else pickle.dumps((given.value, given.failure))
        head = torch.tensor([given.kind, len(content)])
        heads = [torch.zeros_like(head) for _ in range(self.world_size)]
        _wait(distributed.all_gather(heads, head, group=group, async_op=True), timeout)
        envelopes = []
        for rank, (kind, size) in enumerate(torch.stack(heads).tolist()):
            value = failure = None
            if size:
                buffer = torch.zeros(size, dtype=torch.uint8)
                if rank == self.rank:
                    buffer = torch.frombuffer(bytearray(content), dtype=torch.uint8)
                sent = distributed.broadcast(buffer, group=group, group_src=rank, async_op=True)
                _wait(sent, timeout)
                value, failure = pickle.loads(buffer.numpy().tobytes())  # noqa: S301 - our own
            envelopes.append(Envelope(kind, value, failure))
        return envelopes


def _wait(sent: distributed.Work | None, timeout: datetime.timedelta | None) -> None:
    """Wait for an exchange; without a timeout, for as long as its group allows."""
    if sent is not None:
        sent.wait(timeout) if timeout else sent.wait()


def _as_told(rank: int, failure: BaseException) -> MordalError:
    """A rank's failure as it is raised on the others."""
    if is_outage(failure):
        return outage(failure)  # converted here: the cause of an error is not pickled with it
    if isinstance(failure, MordalError) and _can_be_sent(failure):
        return failure
    return ProcessError(rank, described(failure))


def _can_be_sent(failure: MordalError) -> bool:
    """Whether an error can be pickled; or else the other ranks would wait for it."""
    try:
        pickle.dumps(failure)
    except (pickle.PicklingError, TypeError, AttributeError):
        return False
    return True
