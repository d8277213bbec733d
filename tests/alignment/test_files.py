"""Files of checkpoints: whole or not at all, several writers at once, checked on reading."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from mordal_optuna.alignment.checkpoint import CheckpointStore
from mordal_optuna.alignment.files import CheckpointFiles
from mordal_optuna.errors import CheckpointError, LeaseLostError
from mordal_optuna.pool import Candidate
from mordal_optuna.processes.guard import Token
from mordal_optuna.processes.liveness import owner_name
from mordal_optuna.study.claims import ClaimStore
from tests.alignment.checkpoints import Held, checkpoint, other_numbers

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(params=["local", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A local folder, and an address that only fsspec knows."""
    return str(tmp_path) if request.param == "local" else f"memory://{tmp_path.name}"


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    """A real file system of two megabytes: the second rung does not fit, the first stays."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(tmp_path)], check=False)
    if not os.path.ismount(tmp_path):
        pytest.skip("file systems cannot be mounted here")
    try:
        store = CheckpointStore(tmp_path)
        store.save("run", {}, checkpoint(8))
        large = replace(checkpoint(16), trained={"w": torch.zeros(1 << 20)})
        with pytest.raises(CheckpointError, match="cannot be written.*No space left"):
            store.save("run", {}, large)
        assert store.rungs("run") == [8]
        store.load("run", 8)
        assert [path.name for path in (tmp_path / "run").iterdir() if path.is_dir()] == ["8"]
        broken = replace(large, samples=8)  # nor is a rung lost that is written anew
        with pytest.raises(CheckpointError, match="No space left"):
            store.save("run", {}, broken)
        assert torch.equal(store.load("run", 8).trained["w"], torch.arange(4.0))
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.parametrize("moment", ["trained", "optimizer", "checkpoint.json"])
def test_a_write_that_stops_anywhere_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """The writer dies while it renames a part: no rung, and the next writer cleans up."""
    store = CheckpointStore(tmp_path)
    place = CheckpointFiles._place

    class Killed(BaseException):
        pass

    def dies(self: CheckpointFiles, local: Path, path: str) -> None:
        if f"/{moment}" in path:
            raise Killed
        place(self, local, path)

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointFiles, "_place", dies)
        with pytest.raises(Killed):
            store.save("run", {}, checkpoint(8))
    assert store.rungs("run") == []
    store.save("run", {}, checkpoint(8))
    store.load("run", 8)
    assert len(list((tmp_path / "run" / "8").iterdir())) == 3


def test_a_writer_that_lost_its_lease_leaves_what_is_there(folder: str) -> None:
    """It is asked when all but the manifest is written."""
    store = CheckpointStore(folder)
    store.save("run", {}, checkpoint(8), Held(1))
    placed: list[int] = []

    class Asked(Held):
        def check(self) -> None:
            files = store.files._fs.ls(f"{folder}/run/8", detail=False)
            placed.append(len([path for path in files if "trained" in path]))
            super().check()

    with pytest.raises(LeaseLostError):
        store.save("run", {}, other_numbers(8), Asked(2, lost=True))
    assert placed == [2]
    assert torch.equal(store.load("run", 8).trained["w"], torch.arange(4.0))
    store.save("run", {}, other_numbers(8), Held(3))
    assert torch.equal(store.load("run", 8).trained["w"], torch.zeros(4))


def test_a_later_claim_of_the_same_study_is_never_written_over(folder: str) -> None:
    """Even by a writer that has not noticed yet that it lost its lease."""
    store = CheckpointStore(folder)
    store.save("run", {}, checkpoint(8), Held(5))
    with pytest.raises(LeaseLostError, match="^other: this worker was silent"):
        store.save("run", {}, other_numbers(8), Held(4))
    assert store.files.manifest("run", 8).token == Token("s", 5)
    assert torch.equal(store.load("run", 8).trained["w"], torch.arange(4.0))
    for writer in (Held(5), Held(6), Held(2, study="another"), None, Held(1)):
        store.save("run", {}, other_numbers(8), writer)
        assert store.files.manifest("run", 8).token == (writer and writer.token)


@pytest.mark.parametrize("moment", ["trained", "optimizer", "checkpoint.json"])
def test_two_that_write_a_rung_at_once_leave_it_whole(
    folder: str, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """While one puts a file in place, the other writes all of it; the last manifest counts."""
    store, place = CheckpointStore(folder), CheckpointFiles._place
    scratch: list[Path] = []

    def crossed(self: CheckpointFiles, local: Path, path: str) -> None:
        if f"/{moment}" in path and not scratch:
            scratch.append(local)
            CheckpointStore(folder).save("run", {}, other_numbers(8))
            assert torch.equal(store.load("run", 8).trained["w"], torch.zeros(4))
        place(self, local, path)

    monkeypatch.setattr(CheckpointFiles, "_place", crossed)
    store.save("run", {}, checkpoint(8))
    assert scratch
    assert torch.equal(store.load("run", 8).trained["w"], torch.arange(4.0))


def test_parts_that_vanish_before_they_are_named_are_written_again(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer was suspended for so long that another removed its parts as abandoned."""
    store, place = CheckpointStore(folder), CheckpointFiles._place

    def late(self: CheckpointFiles, local: Path, path: str) -> None:
        if path.endswith("checkpoint.json"):
            (trained,) = self._fs.glob(f"{path.rsplit('/', 1)[0]}/trained-*")
            self._fs.rm_file(trained)
        place(self, local, path)

    monkeypatch.setattr(CheckpointFiles, "_place", late)
    store.save("run", {}, checkpoint(8))
    store.load("run", 8)


def test_files_of_a_killed_writer_are_removed_once_nobody_can_name_them(
    tmp_path: Path,
) -> None:
    """At once if its process has ended; unnamed parts and files of others after an hour."""
    store, folder = CheckpointStore(tmp_path), tmp_path / "run" / "8"
    store.save("run", {}, other_numbers(8))
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    machine, _, unique = owner_name().split("/")
    for name in (
        f".trained~{machine}~{done.pid}~{unique}~x",
        f".trained~{machine}~{os.getpid()}~{unique}~x",
        ".trained~elsewhere~1~a~x",
        ".trained-x",
    ):
        (folder / name).touch()
    store.save("run", {}, checkpoint(8))
    assert len(list(folder.glob("trained-*"))) == 2
    assert len(list(folder.glob(".trained*"))) == 3
    for path in folder.iterdir():
        os.utime(path, (0, 0))
    store.save("run", {}, checkpoint(8))
    assert len(list(folder.iterdir())) == 3
    store.load("run", 8)


def test_a_rung_that_two_delete_is_deleted(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    files = CheckpointStore(folder).files
    CheckpointStore(folder).save("run", {}, checkpoint(8))
    remove = files._fs.rm_file

    def twice(path: str) -> None:
        remove(path)
        remove(path)

    monkeypatch.setattr(files._fs, "rm_file", twice)
    files.delete("run", 8)
    files.delete("run", 8)
    assert files.rungs("run") == []


@pytest.mark.parametrize("name", ["trained", "optimizer"])
def test_any_damage_is_found(tmp_path: Path, name: str) -> None:
    store = CheckpointStore(tmp_path)
    store.save("run", {}, checkpoint(8))
    (file,) = (tmp_path / "run" / "8").glob(f"{name}-*")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match=f"{name}.* does not read back"):
        store.load("run", 8)


def test_damaged_facts_are_found(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    store.save("run", {}, checkpoint(8))
    file = tmp_path / "run" / "8" / "checkpoint.json"
    file.write_text(file.read_text().replace('"train_seconds": 1.5', '"train_seconds": 2.5'))
    with pytest.raises(CheckpointError, match=r"checkpoint\.json does not read back"):
        store.load("run", 8)


def test_a_missing_checkpoint_is_an_error(folder: str) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        CheckpointStore(folder).load("run", 8)


def test_an_address_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(CheckpointError, match="'nosuch://x': cannot be opened"):
        CheckpointStore("nosuch://x")


STOPPED = """
import os, signal, sys
from mordal_optuna.alignment.files import CheckpointFiles
from mordal_optuna.errors import LeaseLostError
from mordal_optuna.pool import Candidate
from mordal_optuna.study.claims import ClaimStore

folder, database = sys.argv[1:]
put = CheckpointFiles._put_json

def stopping(self, path, content):
    if "/checkpoint" in path:
        os.kill(os.getpid(), signal.SIGSTOP)  # the claim was checked; nothing is replaced yet
    put(self, path, content)

CheckpointFiles._put_json = stopping
claims, pair = ClaimStore(database, "s", lease_seconds=0.5), Candidate("a", "b")
parts = {"trained": lambda path: path.write_bytes(b"late")}
with claims.hold(pair, 1) as claim:
    try:
        CheckpointFiles(folder).write("run", 8, {}, parts, {}, claim)
    except LeaseLostError:
        sys.exit(3)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "there"), [("local", True), ("fsspec", False)])
def test_a_worker_stopped_before_it_replaces_a_file_changes_nothing(
    tmp_path: Path, kind: str, there: bool
) -> None:
    """SIGSTOP after the claim was checked, for longer than the lease; then SIGCONT.

    Another worker has claimed the candidate and written the rung meanwhile; there may have been
    one before.
    """
    folder, database = str(tmp_path / "c"), f"sqlite:///{tmp_path / 's.db'}"
    (tmp_path / "c").mkdir()
    address = folder if kind == "local" else f"dir::file://{folder}"
    store, pair = CheckpointStore(address), Candidate("a", "b")
    assert store.files._local == (kind == "local")
    if there:
        store.save("run", {}, other_numbers(8))
    stopped = subprocess.Popen([sys.executable, "-c", STOPPED, address, database])
    _, status = os.waitpid(stopped.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    later = ClaimStore(database, "s", lease_seconds=0.5)
    deadline = time.monotonic() + 30
    while not later.remove_abandoned():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    with later.hold(pair, 2):
        store.save("run", {}, checkpoint(8), later.guard(pair))
        os.kill(stopped.pid, signal.SIGCONT)
        assert stopped.wait(60) == 3
    assert store.files.manifest("run", 8).token == Token("s", 2)
    assert torch.equal(store.load("run", 8).trained["w"], torch.arange(4.0))
    assert len(store.files._manifests("run", 8)) == 1


def test_the_manifest_of_a_late_writer_does_not_count(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It planned its manifest before its successor did, and is the first or the last to write."""
    store, put = CheckpointStore(folder), CheckpointFiles._put_json

    def late(self: CheckpointFiles, path: str, content: Any) -> None:
        if "/checkpoint" in path and content["token"]["trial"] == 1:
            store.save("run", {}, checkpoint(8), Held(2))
        put(self, path, content)

    for before in (None, Held(9, study="another"), None):
        store.save("run", {}, other_numbers(8), before)
        with monkeypatch.context() as patch:
            patch.setattr(CheckpointFiles, "_put_json", late)
            with pytest.raises(LeaseLostError):
                store.save("run", {}, other_numbers(8), Held(1))
        assert store.files.manifest("run", 8).token == Token("s", 2)
        assert torch.equal(store.load("run", 8).trained["w"], torch.arange(4.0))


def test_a_rung_that_is_replaced_is_found_by_all(folder: str) -> None:
    """Under any writer's manifest: it is listed once, read, and gone when it is deleted."""
    store = CheckpointStore(folder)
    for writer in (None, Held(3), Held(4), Held(1, study="another"), None):
        store.save("run", {}, other_numbers(8), writer)
        assert store.rungs("run") == [8]
        store.load("run", 8)
    store.files.delete("run", 8)
    assert store.rungs("run") == []


def test_a_folder_may_have_any_name(tmp_path: Path) -> None:
    """Characters that are patterns elsewhere, and what a shell would replace."""
    for name in ("a[1]", "b*", "c?", "~", "$HOME", "é ü"):
        store = CheckpointStore(tmp_path / name)
        store.save("run", {}, checkpoint(8))
        assert store.rungs("run") == [8], name
        assert store.files.runs() == ["run"]
        store.load("run", 8)
