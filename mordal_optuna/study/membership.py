"""Who works on a study: one process alone, or workers that join it and take turns.

A worker has a row in `mordal_runs` while it works, so that no process runs the study alone
meanwhile. Its name says whether the worker has read the study's configuration: from then on the
study has begun for those that join later, although nothing may be spent yet.
"""

from __future__ import annotations

import time
import uuid
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING

from mordal_optuna.errors import StoreError
from mordal_optuna.study.ownership import (
    LEASE_SECONDS,
    busy_on,
    live_rows,
    open_runs,
    owned,
    worker_prefix,
)
from mordal_optuna.study.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from mordal_optuna.study.ownership import LeaseRows

_OPENING, _WORKER = "opening ", "worker "


class Alone:
    """A process that works on a study by itself.

    Attributes:
        turns: None: nothing is shared out.
    """

    turns: Turns | None = None

    def __init__(self, does: Callable[[str], None] = lambda _: None) -> None:
        """Work alone.

        Args:
            does: function that is told what the process does.
        """
        self._does = does

    def turn(self, part: str) -> AbstractContextManager[None]:  # noqa: ARG002
        """Wait for the turn to do a part of the study.

        Args:
            part: name of the part.
        """
        return nullcontext()

    @property
    def has_begun(self) -> bool:
        """Whether other workers have begun the study."""
        return False

    def begin(self) -> None:
        """Tell other workers that the study has begun."""

    def does(self, text: str) -> None:
        """Tell what this worker does.

        Args:
            text: at most 255 characters, such as "waiting".
        """
        self._does(text)


class Member(Alone):
    """A worker beside others; `joined` makes one.

    Attributes:
        turns: turns of the study's workers.
    """

    def __init__(
        self,
        rows: LeaseRows,
        study: str,
        held: ExitStack,
        *,
        sleep: Callable[[float], None],
        does: Callable[[str], None],
    ) -> None:
        """Take part; see `joined`."""
        super().__init__(does)
        self.turns: Turns = Turns("", study, rows=rows, sleep=sleep)
        self._rows = rows
        self._prefix = worker_prefix(study)
        self._name = uuid.uuid4().hex[:12]
        self._held = held
        held.enter_context(owned(rows, f"{self._prefix}{_OPENING}{self._name}]"))

    def turn(self, part: str) -> AbstractContextManager[None]:
        """Wait for the turn to do a part of the study, and have it in the context."""
        return self.turns.wait_for(part)

    @property
    def has_begun(self) -> bool:
        """Whether other workers, which live now, have begun the study."""
        own = f"{self._prefix}{self._name}]"
        opening = f"{self._prefix}{_OPENING}"
        rows = live_rows(self._rows, self._prefix)
        return any(name != own and not name.startswith(opening) for name in rows)

    def begin(self) -> None:
        """Tell other workers that the study has begun."""
        self._held.enter_context(owned(self._rows, f"{self._prefix}{self._name}]"))


@contextmanager
def joined(
    address: str,
    study: str,
    *,
    lease_seconds: float = LEASE_SECONDS,
    sleep: Callable[[float], None] = time.sleep,
    does: Callable[[str], None] = lambda _: None,
) -> Iterator[Member]:
    """Work on a study beside other workers, in the context.

    Args:
        address: SQLAlchemy address of the study's database.
        study: name of the study.
        lease_seconds: length of a lease, above 0: a worker that is silent for so long counts as
            ended.
        sleep: function that waits for a number of seconds.
        does: function that is told what the worker does.

    Raises:
        BusyError: if a process runs the study alone.
        StoreError: if the database cannot be used.
    """
    rows = open_runs(address, lease_seconds=lease_seconds)
    with ExitStack() as held:
        member = Member(rows, study, held, sleep=sleep, does=does)
        rows.remove_abandoned(study=study)
        if rows.rows(study=study):
            raise busy_on(rows, study)
        try:
            yield member
        finally:
            # What dead workers have left, which nobody may ever ask for again.
            prefix = worker_prefix(study).removesuffix(_WORKER)
            with suppress(StoreError):
                rows.remove_abandoned(lambda row: row.study.startswith(prefix))
