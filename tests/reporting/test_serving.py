"""The server answers several connections at a time, and refuses what it cannot listen on."""

from __future__ import annotations

import json
import socket
import threading
import urllib.request
from typing import TYPE_CHECKING

import pytest
from optuna.storages import InMemoryStorage

from mordal_optuna.errors import ConfigError
from mordal_optuna.reporting.serving import dashboard_server

if TYPE_CHECKING:
    from pathlib import Path


def test_an_open_connection_blocks_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Browsers open connections in advance; nothing is logged, and artifacts are available."""
    folder = tmp_path / "artifacts"
    with dashboard_server(InMemoryStorage(), folder, host="127.0.0.1", port=0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with socket.create_connection(("127.0.0.1", server.server_port)):
            url = f"http://127.0.0.1:{server.server_port}/api/meta"
            with urllib.request.urlopen(url, timeout=30) as answer:
                assert json.load(answer)["artifact_is_available"]
        server.shutdown()
    assert folder.is_dir()
    assert capsys.readouterr().err == ""


def test_a_port_in_use_is_one_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        message = rf"^--host 127.0.0.1 --port {port}: cannot listen there \(.+\); give a port"
        with (
            pytest.raises(ConfigError, match=message),
            dashboard_server(InMemoryStorage(), tmp_path, host="127.0.0.1", port=port),
        ):
            pass
