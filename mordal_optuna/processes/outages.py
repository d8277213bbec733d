"""Whose fault an error is: an outage, of storage, disk, network or device, is nobody's.

An outage passes, or is mended outside the program; then the same work succeeds. What a candidate
does wrong, and what is not there or refused, fails again. Libraries are known by the names of
their classes, so that none of them is loaded for it.
"""

from __future__ import annotations

import errno
import re
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mordal_optuna.errors import InfrastructureError, MordalError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# What libraries raise where a model, its data or its numbers do not suit them.
_LIBRARY_ERRORS = (RuntimeError, ValueError, TypeError, LookupError, ArithmeticError, ImportError)
# What the operating system says of disks, network drives and connections.
_NUMBERS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EIO,
    errno.EROFS,
    errno.ESTALE,
    errno.EBUSY,
    errno.ENOTCONN,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.ENETRESET,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ECONNABORTED,
    errno.ECONNRESET,
    errno.ECONNREFUSED,
    errno.ETIMEDOUT,
}
# Errors of libraries, by the package and the name of a class or of one it derives from.
_CLASSES = {
    ("sqlalchemy", "OperationalError"),
    ("sqlalchemy", "InterfaceError"),
    ("sqlalchemy", "TimeoutError"),
    ("sqlalchemy", "DisconnectionError"),
    ("optuna", "StorageInternalError"),
    ("httpx", "TransportError"),
    ("httpx2", "TransportError"),
    ("requests", "ConnectionError"),
    ("requests", "Timeout"),
    ("aiohttp", "ClientConnectionError"),
    ("botocore", "ConnectionError"),
    ("botocore", "HTTPClientError"),
    ("torch", "DistBackendError"),
    ("torch", "DistNetworkError"),
    ("torch", "DistStoreError"),
}
_DATABASES = {"sqlalchemy", "optuna"}
# A server's answers that ask to come again: too many requests, and its own faults.
_TOO_MANY, _SERVER_FAULTS = 429, range(500, 600)
_GRPC = {"UNAVAILABLE", "DEADLINE_EXCEEDED"}
# A device that is lost says so in words, whatever the class of the error. Running out of memory,
# asserts of kernels and illegal accesses are the doing of what ran there.
_LOST_DEVICE = re.compile(
    r"NCCL error|NCCL communicator|uncorrectable (ECC|NVLink) error|unspecified launch failure"
    r"|hardware stack error|fallen off the bus|busy or unavailable|device[_ ](was )?lost"
    r"|no (CUDA-capable|HIP-capable|ROCm-capable) device",
    re.IGNORECASE,
)
# Errors of files behind a library written in Rust carry the system's number in their text alone.
_SYSTEM_NUMBER = re.compile(r"\(os error (\d+)\)")


def is_outage(error: BaseException) -> bool:
    """Whether an error, or one that it was raised from, is an outage."""
    return any(_is_one(link) for link in _chain(error))


def outage(error: BaseException) -> InfrastructureError:
    """An outage's error as this package tells it: without a text that can hold a password."""
    if isinstance(error, InfrastructureError):
        return error
    if isinstance(error, MordalError):
        return InfrastructureError(str(error))
    names = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    if names & _DATABASES:
        cause = getattr(error.__cause__ or error, "orig", None) or error
        return InfrastructureError(f"the study's storage failed ({type(cause).__name__})")
    return InfrastructureError(described(error))


def described(error: BaseException) -> str:
    """An error's class and the first line of its text."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


@contextmanager
def raised_as(own: Callable[[str], MordalError]) -> Iterator[None]:
    """Raise what libraries raise as a candidate's own error, with its cause.

    Args:
        own: makes that error from a reason.
    """
    try:
        yield
    except MordalError:
        raise  # says already whose error it is; some are ValueErrors as well
    except _LIBRARY_ERRORS as error:
        raise own(described(error)) from error


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those that it was raised from, as a traceback shows them."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        hidden = error.__suppress_context__
        error = error.__cause__ or (None if hidden else error.__context__)


def _is_one(error: BaseException) -> bool:
    kinds = {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(error).__mro__}
    if ("huggingface_hub", "OfflineModeIsEnabled") in kinds:
        return False  # the user's own choice: what is not here is missing
    if isinstance(error, (InfrastructureError, StoreError, ConnectionError, TimeoutError)):
        return True
    if kinds & _CLASSES or isinstance(error, socket.gaierror):
        return True
    return (
        _system_number(error) in _NUMBERS
        or _http_status(error) in (_TOO_MANY, *_SERVER_FAULTS)
        or _grpc_status(error) in _GRPC
        or (isinstance(error, RuntimeError) and bool(_LOST_DEVICE.search(str(error))))
    )


def _system_number(error: BaseException) -> int | None:
    if isinstance(error, OSError):
        return error.errno
    found = _SYSTEM_NUMBER.search(str(error)) if _is_of("safetensors", error) else None
    return int(found[1]) if found else None


def _http_status(error: BaseException) -> int | None:
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _grpc_status(error: BaseException) -> str | None:
    return str(error.code().name) if _is_of("grpc", error) and hasattr(error, "code") else None


def _is_of(package: str, error: BaseException) -> bool:
    return any(kind.__module__.partition(".")[0] == package for kind in type(error).__mro__)
