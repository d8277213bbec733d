"""Distinguishes outages (of storage, disk, network or device) from errors of a candidate.

After an outage the same work succeeds, once it has passed or was repaired outside the program.
Errors that a candidate causes, and missing or refused files, occur again. Errors of libraries are
recognised by the names of their classes, so that no library is loaded for it.
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

# What libraries raise if a model, its data or its numbers are unsuitable.
_LIBRARY_ERRORS = (RuntimeError, ValueError, TypeError, LookupError, ArithmeticError, ImportError)
# errno values of failing disks, network drives and connections.
_ERRNO = {
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
# Errors of libraries: package, and name of the error's class or of one of its base classes.
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
# HTTP status codes after which a request may be repeated: too many requests, server errors.
_TOO_MANY, _SERVER_FAULTS = 429, range(500, 600)
_GRPC = {"UNAVAILABLE", "DEADLINE_EXCEEDED"}
# A lost device is recognised by the text of the error, whatever its class. Running out of memory,
# failed asserts in kernels and illegal accesses are caused by the program that ran there.
_LOST_DEVICE = re.compile(
    r"NCCL error|NCCL communicator|uncorrectable (ECC|NVLink) error|unspecified launch failure"
    r"|hardware stack error|fallen off the bus|busy or unavailable|device[_ ](was )?lost"
    r"|no (CUDA-capable|HIP-capable|ROCm-capable) device",
    re.IGNORECASE,
)
# Libraries written in Rust report the errno of a file error in its text only.
_RUST_ERRNO = re.compile(r"\(os error (\d+)\)")


def is_outage(error: BaseException) -> bool:
    """Whether an error, or one of its causes, is an outage."""
    return any(_is_outage_itself(link) for link in _chain(error))


def outage(error: BaseException) -> InfrastructureError:
    """Convert an outage to this package's error.

    Args:
        error: an error for which `is_outage` holds.

    Returns:
        An error whose text cannot hold the database's password.
    """
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
def raised_as(make_error: Callable[[str], MordalError]) -> Iterator[None]:
    """Convert errors that libraries raise inside the block; the original becomes the cause.

    Args:
        make_error: function that makes this package's error from a reason.
    """
    try:
        yield
    except MordalError:
        raise  # already converted; some are ValueErrors as well
    except _LIBRARY_ERRORS as error:
        raise make_error(described(error)) from error


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and its causes, in the order in which a traceback shows them."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        hidden = error.__suppress_context__
        error = error.__cause__ or (None if hidden else error.__context__)


def _is_outage_itself(error: BaseException) -> bool:
    kinds = {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(error).__mro__}
    if ("huggingface_hub", "OfflineModeIsEnabled") in kinds:
        return False  # the user switched the hub off: the file is missing
    if isinstance(error, (InfrastructureError, StoreError, ConnectionError, TimeoutError)):
        return True
    if kinds & _CLASSES or isinstance(error, socket.gaierror):
        return True
    return (
        _errno(error) in _ERRNO
        or _http_status(error) in (_TOO_MANY, *_SERVER_FAULTS)
        or _grpc_status(error) in _GRPC
        or (isinstance(error, RuntimeError) and bool(_LOST_DEVICE.search(str(error))))
    )


def _errno(error: BaseException) -> int | None:
    if isinstance(error, OSError):
        return error.errno
    match = _RUST_ERRNO.search(str(error)) if _is_of("safetensors", error) else None
    return int(match[1]) if match else None


def _http_status(error: BaseException) -> int | None:
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _grpc_status(error: BaseException) -> str | None:
    return str(error.code().name) if _is_of("grpc", error) and hasattr(error, "code") else None


def _is_of(package: str, error: BaseException) -> bool:
    return any(kind.__module__.partition(".")[0] == package for kind in type(error).__mro__)
