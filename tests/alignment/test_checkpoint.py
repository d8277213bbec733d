"""Checkpoints: whole or not at all, addressed by what shaped them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from transformers import AutoConfig

from mordal_optuna.alignment.checkpoint import (
    Checkpoint,
    CheckpointStore,
    run_address,
    run_identity,
)
from mordal_optuna.alignment.files import CheckpointFiles
from mordal_optuna.alignment.train import TrunkState
from mordal_optuna.errors import CheckpointError, LeaseLostError
from mordal_optuna.files.digests import FileDigests
from mordal_optuna.pool import ModelSource
from mordal_optuna.processes.guard import Token
from mordal_optuna.processes.liveness import owner_name
from tests import tiny

if TYPE_CHECKING:
    from mordal_optuna.config import AlignmentSettings


def checkpoint(samples: int, *, trunk: int | None = None, averaged: bool = False) -> Checkpoint:
    weights = {"w": torch.arange(4.0)}
    optimizer = {"w/exp_avg": torch.ones(4), "w/step": torch.tensor(3.0)}
    scored = {"w": torch.arange(4.0) + samples}
    apart = averaged or trunk is not None
    state = TrunkState(trunk or samples, weights, optimizer, scored if averaged else None)
    return Checkpoint(samples, scored if apart else weights, state, 1.5, {"torch": "2"})


@pytest.fixture(params=["local", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A local folder, and an address that only fsspec knows."""
    return str(tmp_path) if request.param == "local" else f"memory://{tmp_path.name}"


def test_what_is_saved_is_loaded(folder: str) -> None:
    store = CheckpointStore(folder)
    store.save("run", {"seed": 0}, checkpoint(8))
    store.save("run", {"seed": 0}, checkpoint(16))
    assert store.rungs("run") == [8, 16]
    assert store.rungs("other") == []
    found = store.load("run", 16)
    assert torch.equal(found.trained["w"], torch.arange(4.0))
    assert found.trunk.optimizer.keys() == {"w/exp_avg", "w/step"}
    assert (found.samples, found.trunk.samples, found.train_seconds) == (16, 16, 1.5)
    assert store.files.runs() == ["run"]
    assert store.files.identity("run") == {"seed": 0}


def test_a_trunk_that_is_not_scored_is_kept_beside(folder: str) -> None:
    store = CheckpointStore(folder)
    store.save("run", {}, checkpoint(16, trunk=12))
    found = store.load("run", 16)
    assert torch.equal(found.trained["w"], torch.arange(4.0) + 16)
    assert torch.equal(found.trunk.weights["w"], torch.arange(4.0))
    assert (found.trunk.samples, found.trunk.average) == (12, None)


def test_an_average_is_what_is_scored(folder: str) -> None:
    store = CheckpointStore(folder)
    store.save("run", {}, checkpoint(16, averaged=True))
    found = store.load("run", 16)
    assert found.trunk.average
    assert torch.equal(found.trunk.average["w"], found.trained["w"])
    assert not torch.equal(found.trunk.weights["w"], found.trained["w"])


def test_the_digest_is_of_the_numbers_alone(tmp_path: Path) -> None:
    first = CheckpointStore(tmp_path / "a").save("run", {}, checkpoint(8)).digest
    slower = replace(checkpoint(8), train_seconds=99.0)
    assert CheckpointStore(tmp_path / "b").save("run", {}, slower).digest == first
    other = replace(checkpoint(8), trained={"w": torch.zeros(4)})
    assert CheckpointStore(tmp_path / "c").save("run", {}, other).digest != first


def test_only_so_many_are_kept(folder: str) -> None:
    store = CheckpointStore(folder, keep=2)
    for samples in (8, 16, 32):
        store.save("run", {}, checkpoint(samples))
    assert store.rungs("run") == [16, 32]
    store.load("run", 16)


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
    """The writer dies as it puts a part in place: no rung, and the next writer cleans up."""
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


class Held:
    """A claim of a trial, which may be lost."""

    def __init__(self, trial: int, study: str = "s", *, lost: bool = False) -> None:
        self.token = Token(study, trial)
        self.failure = LeaseLostError("a + b") if lost else None

    def check(self) -> None:
        """As it was told."""
        if self.failure:
            raise self.failure


def other_numbers(samples: int) -> Checkpoint:
    return replace(checkpoint(samples), trained={"w": torch.zeros(4)}, candidate="other")


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
    """Even by a writer that does not know yet that it lost its lease."""
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
    """A writer was stopped for so long that another took what it had written for left over."""
    store, place = CheckpointStore(folder), CheckpointFiles._place

    def late(self: CheckpointFiles, local: Path, path: str) -> None:
        if path.endswith("checkpoint.json"):
            (trained,) = self._fs.glob(f"{path.rsplit('/', 1)[0]}/trained-*")
            self._fs.rm_file(trained)
        place(self, local, path)

    monkeypatch.setattr(CheckpointFiles, "_place", late)
    store.save("run", {}, checkpoint(8))
    store.load("run", 8)


def test_what_a_killed_writer_left_is_swept_once_nobody_can_want_it(tmp_path: Path) -> None:
    """At once where its process has ended; unnamed parts, and scratch of others, after an hour."""
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


def test_a_rung_that_was_just_saved_is_kept(folder: str) -> None:
    """Another study has gone further with the same candidate."""
    store = CheckpointStore(folder, keep=2)
    for samples in (16, 32, 8):
        store.save("run", {}, checkpoint(samples))
    assert store.rungs("run") == [8, 16, 32]


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


def test_the_address_follows_content_not_place(
    tmp_path: Path, settings: AlignmentSettings
) -> None:
    """A model moved elsewhere and renamed is the same; one with other weights is not."""
    here = tiny.llm(tmp_path, "llama")
    there = ModelSource("other name", str(tmp_path / "moved"))
    shutil.copytree(here.location, there.location)
    assert _address(there, settings) == _address(here, settings)
    weights = Path(there.location) / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    assert _address(there, settings) != _address(here, settings)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("chat_template.jinja", "{{ messages }}"),
        ("tokenizer.json", "{}"),
        ("generation_config.json", "{}"),
        ("preprocessor_config.json", "{}"),
    ],
)
def test_the_address_follows_everything_that_is_read_of_a_model(
    tmp_path: Path, settings: AlignmentSettings, file: str, content: str
) -> None:
    """Its weights may be the same: the tokenizer and the template shape the training, too."""
    model = tiny.llm(tmp_path, "llama")
    before = _address(model, settings)
    (Path(model.location) / file).write_text(content)
    assert _address(model, settings) != before


def _address(model: ModelSource, settings: AlignmentSettings) -> str:
    pair = (model, AutoConfig.from_pretrained(model.location))
    identity = run_identity(
        pair, pair, settings=settings, data_digest="d", seed=0, files=FileDigests()
    )
    return run_address(identity)
