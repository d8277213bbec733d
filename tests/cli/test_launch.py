"""`mordal launch`: tasks of HyperQueue that are restarted, and what is refused."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import optuna
import pytest
import yaml
from optuna.trial import TrialState
from typer.testing import CliRunner

from mordal_optuna.cli import app as cli
from mordal_optuna.cli.launch import submit, worker_command
from mordal_optuna.config import parse_study
from mordal_optuna.driver import load_study, run_study
from mordal_optuna.errors import StoreError
from mordal_optuna.progress import Silent
from mordal_optuna.search.attributes import DIED, RUNGS
from mordal_optuna.search.history import candidate_of
from mordal_optuna.study.claims import ClaimStore
from mordal_optuna.study.presence import alive
from tests.cli.calls import call, study_file
from tests.databases import new_database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hyperqueue import LocalCluster

MISSING = "HyperQueue's client is not installed: pip install 'mordal-optuna[hyperqueue]'"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    """A HyperQueue server and one of its workers, with three cores, in this process."""
    hyperqueue = pytest.importorskip("hyperqueue", reason=MISSING)
    from hyperqueue.cluster import WorkerConfig

    with hyperqueue.LocalCluster(str(tmp_path / "hq")) as started:
        started.start_worker(WorkerConfig(cores=3))
        yield started


def kill_one_that_trains(address: str) -> None:
    """Send SIGKILL to the first worker that says it trains a pair, in the middle of that.

    The client must not wait for its jobs meanwhile: it lets no other thread of this process run.
    """
    end = time.monotonic() + 120
    while time.monotonic() < end:
        with suppress(StoreError):  # the first worker has not made the table yet
            for worker in alive(address, "tiny"):
                if worker.doing.startswith("training"):
                    os.kill(worker.process, signal.SIGKILL)
                    return
        time.sleep(0.1)
    pytest.fail("no worker was seen training")


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_killed_worker_is_started_again_and_the_study_ends(
    cluster: LocalCluster, study_content: dict[str, Any], tmp_path: Path, postgresql: str
) -> None:
    """Three `mordal worker`s as `mordal launch` submits them, on the embedded pool `tiny`."""
    study_content |= {"also_score": [], "search": {"method": "grid"}}
    whole = run_study(parse_study(study_content), Silent())
    study_content |= {"workdir": str(tmp_path / "launched"), "storage": new_database(postgresql)}
    file, logs = tmp_path / "study.yaml", tmp_path / "logs"
    file.write_text(yaml.safe_dump(study_content))
    settings = parse_study(study_content)
    address, client = settings.storage_url(), cluster.client()
    job = submit(worker_command(file), 3, tmp_path / "hq", {"cpus": 1}, name="tiny", logs=logs)
    submitted = [type("Job", (), {"id": job})()]
    kill_one_that_trains(address)
    assert client.wait_for_jobs(submitted, raise_on_error=False)
    printed = [log.read_text(encoding="utf-8") for log in sorted(logs.glob("*.log"))]
    assert len(printed) == 3
    assert all("1. loading torch" in text for text in printed)
    again = ["the worker ended with status 137; started again" in text for text in printed]
    assert sorted(again) == [False, False, True]
    result = load_study(settings)
    assert [(e.candidate, e.value) for e in result.ranking] == [
        (e.candidate, e.value) for e in whole.ranking
    ]
    study = optuna.load_study(study_name="tiny", storage=address)
    trials = study.get_trials(deepcopy=False)
    scored = Counter((candidate_of(t), n) for t in trials for n in t.user_attrs.get(RUNGS, {}))
    assert set(scored.values()) == {1}
    assert sum(DIED in trial.user_attrs for trial in trials) == 1
    assert not study.get_trials(states=(TrialState.RUNNING,))
    assert ClaimStore(address, "tiny").claimed() == {}


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_statuses_that_lead_to_a_restart(cluster: LocalCluster, tmp_path: Path) -> None:
    """75 does; 2, for what a person must mend, fails the task and no other."""
    client, server = cluster.client(), tmp_path / "hq"
    restarted = [sys.executable, "-m", "mordal_optuna.processes.restarting", "--"]
    once = f"echo begun; [ -e {tmp_path}/tried ] && exit 0; touch {tmp_path}/tried; exit 75"
    ids = [
        submit([*restarted, "sh", "-c", code], 1, server, {"cpus": 1}, name="t", logs=tmp_path)
        for code in (once, "exit 2")
    ]
    jobs = [type("Job", (), {"id": number})() for number in ids]
    assert client.wait_for_jobs(jobs[:1], raise_on_error=False)
    assert not client.wait_for_jobs(jobs[1:], raise_on_error=False)
    lines = (tmp_path / f"{ids[0]}-0.log").read_text().splitlines()
    assert [line.split(";")[0] for line in lines] == [
        "begun",
        "mordal: the worker ended with status 75",
        "begun",
    ]
    assert "exit code 2" in client.get_failed_tasks(jobs[1])[0].error


@pytest.mark.slow
def test_the_command_prints_how_to_watch(
    cluster: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tasks run `mordal worker`, which fails here: models of the study file are nowhere."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    file = study_file(tmp_path)
    given = ["launch", str(file), "--workers", "2", "--hq-server", str(tmp_path / "hq")]
    shown = CliRunner().invoke(cli.app, [*given, "--as", "s-2"]).stdout
    found = re.search(r"submitted job (\d+) with 2 workers", shown)
    assert found
    assert f"hq job info {found[1]} --server-dir {tmp_path / 'hq'}" in shown
    assert f"mordal status {file} --as s-2 --watch" in shown


def test_the_command_of_a_task(tmp_path: Path) -> None:
    """Its paths hold on other machines; several GPUs are used by one launch."""
    file = tmp_path / "study.yaml"
    command = worker_command(file, method="joint", name="s-2")
    worker = ["-m", "mordal_optuna", "worker", str(file), "--method", "joint", "--as", "s-2"]
    restarting = [sys.executable, "-m", "mordal_optuna.processes.restarting", "--"]
    assert command == [*restarting, sys.executable, *worker]
    several = worker_command(file, gpus=4)
    torchrun = ["-m", "mordal_optuna.processes.torchrun", "--standalone", "--nproc-per-node=4"]
    assert several == [*restarting, sys.executable, *torchrun, *worker[:4]]


def test_what_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    file = study_file(tmp_path)
    monkeypatch.setitem(sys.modules, "hyperqueue", None)
    status, shown = call("launch", str(file), "--workers", "2", capsys=capsys)
    assert (status, shown.count("\n")) == (2, 1)
    assert "pip install 'mordal-optuna[hyperqueue]'" in shown


def test_a_server_that_is_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("hyperqueue", reason=MISSING)
    monkeypatch.chdir(tmp_path)
    given = ["launch", str(study_file(tmp_path)), "--workers", "2", "--hq-server"]
    status, shown = call(*given, str(tmp_path / "none"), capsys=capsys)
    assert (status, shown.count("\n")) == (2, 1)
    assert "start one by `hq server start`" in shown
