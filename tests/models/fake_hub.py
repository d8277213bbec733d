"""A small hub over HTTP: the few endpoints of huggingface_hub that loading a model needs.

    /api/models/REPO[/revision/REVISION]   commit and files, with `blobs=True` their digests
    /REPO/resolve/REVISION/FILE            a file, with the headers that the cache is built from

Source of paths and headers: huggingface_hub's `hf_api.model_info` and `file_download`.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Hub:
    """Repositories with commits; the latest one is `main`."""

    def __init__(self) -> None:
        self.commits: dict[str, list[tuple[str, dict[str, bytes]]]] = {}
        self.requests: list[str] = []

    def commit(self, repository: str, files: dict[str, bytes]) -> str:
        """Add a commit whose files replace those of the one before by name."""
        history = self.commits.setdefault(repository, [])
        merged = {**(history[-1][1] if history else {}), **files}
        sha = hashlib.sha1(f"{repository}{len(history)}".encode()).hexdigest()
        history.append((sha, merged))
        return sha

    def upload(self, repository: str, folder: Path) -> str:
        """A commit with all files of a folder."""
        return self.commit(
            repository, {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}
        )

    def at(self, repository: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """A commit's name and files."""
        history = self.commits.get(repository, [])
        if revision == "main" and history:
            return history[-1]
        return next((one for one in history if one[0] == revision), None)


def is_large(name: str) -> bool:
    """Whether the hub keeps a file in LFS."""
    return name.endswith((".safetensors", ".bin"))


def digest(name: str, content: bytes) -> str:
    """SHA-256 of a large file, git's blob id of a small one."""
    if is_large(name):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        if path.startswith("/api/models/"):
            self._describe(path.removeprefix("/api/models/"))
        else:
            self._file(path[1:])

    def _describe(self, path: str) -> None:
        if "/tree/" in path:  # of a folder, such as one of further templates; there is none
            self._send(404, b"{}", {"X-Error-Code": "EntryNotFound"})
            return
        repository, _, revision = path.partition("/revision/")
        found = self.hub.at(repository, revision or "main")
        if found is None:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
            return
        sha, files = found
        siblings: list[dict[str, Any]] = []
        for name, content in files.items():
            one: dict[str, Any] = {"rfilename": name, "size": len(content)}
            one["blobId"] = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            if is_large(name):
                size = {"size": len(content), "pointerSize": 134}
                one["lfs"] = {"sha256": digest(name, content), **size}
            siblings.append(one)
        content = {"id": repository, "modelId": repository, "sha": sha, "siblings": siblings}
        self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _file(self, path: str) -> None:
        repository, _, place = path.partition("/resolve/")
        revision, _, name = place.partition("/")
        found = self.hub.at(repository, revision)
        if found is None or name not in found[1]:
            code = "EntryNotFound" if found else "RevisionNotFound"
            self._send(
                404, b"", {"X-Error-Code": code, "X-Repo-Commit": found[0] if found else ""}
            )
            return
        content = found[1][name]
        etag = f'"{digest(name, content)}"'
        self._send(200, content, {"ETag": etag, "X-Linked-Etag": etag, "X-Repo-Commit": found[0]})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)


@contextmanager
def served(hub: Hub) -> Iterator[str]:
    """Serve a hub; gives its address."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
