"""A web server for optuna-dashboard in this process.

optuna-dashboard's own `run_server` answers one connection at a time, so that one that a browser
keeps open blocks all others, and logs every request.
"""

from __future__ import annotations

from contextlib import contextmanager
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from optuna.artifacts import FileSystemArtifactStore

from mordal_optuna.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from optuna.storages import BaseStorage


class _Server(ThreadingMixIn, WSGIServer):
    """Answers every connection in a thread of its own."""

    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    """Logs no requests."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002, ARG002
        """Do nothing."""


@contextmanager
def dashboard_server(
    storage: BaseStorage, folder: Path, *, host: str, port: int
) -> Iterator[WSGIServer]:
    """Open optuna-dashboard on a storage; `serve_forever` of the server answers requests.

    Args:
        storage: storage that holds the studies.
        folder: folder of the artifacts; created if it does not exist.
        host: name or IPv4 address to listen on.
        port: port to listen on, 0 to 65535; 0 takes a free one.

    Yields:
        The server, which already listens on `server_port`.

    Raises:
        ConfigError: if it cannot listen there.
    """
    from optuna_dashboard import wsgi

    folder.mkdir(parents=True, exist_ok=True)
    app = wsgi(storage, FileSystemArtifactStore(folder))
    try:
        server = make_server(host, port, app, server_class=_Server, handler_class=_Quiet)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(
            [
                f"--host {host} --port {port}: cannot listen there ({reason}); give a port that "
                "is free and an address of this machine"
            ]
        ) from error
    with server:
        yield server
