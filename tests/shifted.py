"""A program on a machine whose clock is wrong: `python -m tests.shifted SECONDS MODULE [ARG...]`.

Python's clocks of the time of day are shifted before any other module is imported, except pandas,
whose compiled types derive from the real `datetime.datetime`. Clocks that measure durations, and
those of database servers, are right.
"""

from __future__ import annotations

import datetime
import runpy
import sys
import time
from typing import Any

import pandas  # noqa: F401 - see above


def shift(seconds: float) -> None:
    """Let this process see the time of day with an error.

    Args:
        seconds: the error; above 0 for a clock that is fast.
    """
    right, right_ns, plain = time.time, time.time_ns, datetime.datetime
    local, utc = time.localtime, time.gmtime

    class AnyDatetime(type):
        def __instancecheck__(cls, value: object) -> bool:
            return isinstance(value, plain)

    class Shifted(plain, metaclass=AnyDatetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return cls.fromtimestamp(time.time(), tz)

        @classmethod
        def utcnow(cls) -> Any:
            return cls.fromtimestamp(time.time(), datetime.UTC).replace(tzinfo=None)

    time.time = lambda: right() + seconds
    time.time_ns = lambda: right_ns() + int(seconds * 1e9)
    time.localtime = lambda given=None: local(time.time() if given is None else given)
    time.gmtime = lambda given=None: utc(time.time() if given is None else given)
    datetime.datetime = Shifted  # type: ignore[misc]


if __name__ == "__main__":
    seconds, module, *arguments = sys.argv[1:]
    shift(float(seconds))
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
