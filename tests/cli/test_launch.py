"""`mordal launch`: tasks of HyperQueue that are restarted, and what is refused."""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from typing import TYPE_CHECKING

import optuna
import pytest
from typer.testing import CliRunner

from mordal_optuna.cli import app as cli
from mordal_optuna.cli.launch import submit, worker_command
from mordal_optuna.search.attributes import STOPPED_BECAUSE
from mordal_optuna.search.sampler import study_history
from mordal_optuna.study.claims import ClaimStore, study_storage
from mordal_optuna.study.objective import Objective
from tests.cli.calls import call, study_file
from tests.replay_worker import GRID, STUDY, grid_search_plan
from tests.search.synthetic import believed
from tests.studies import new_study

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


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_killed_worker_is_started_again_and_the_study_ends(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    """Three workers; one is killed in the middle of a job, and its rung is done in the end."""
    database = f"sqlite:///{tmp_path / 'study.db'}"
    study = optuna.create_study(
        study_name=STUDY, storage=study_storage(database), direction="maximize"
    )
    restarted = [sys.executable, "-m", "mordal_optuna.processes.restarting", "--"]
    worker = [sys.executable, "-m", "tests.replay_worker", database, str(tmp_path)]
    client, server, jobs = cluster.client(), tmp_path / "hq", []
    for number, count in (("killed", 1), ("others", 2)):
        command = [*restarted, *worker, number]
        jobs.append(submit(command, count, server, {"cpus": 1}, name=number, logs=tmp_path))
    submitted = [type("Job", (), {"id": job})() for job in jobs]
    assert client.wait_for_jobs(submitted, raise_on_error=False)
    assert "the worker ended with status 137" in (tmp_path / f"{jobs[0]}-0.log").read_text()
    assert study.user_attrs[STOPPED_BECAUSE]
    assert ClaimStore(database, STUDY).claimed() == {}
    plan, alone = grid_search_plan(), new_study(grid_search_plan())
    alone.optimize(Objective(plan, GRID.measurement))
    found = study_history(study)
    assert believed(plan.ranking(found)) == believed(plan.ranking(study_history(alone)))
    begun = Counter(
        line
        for name in ("killed", "others")
        for line in (tmp_path / f"worker-{name}").read_text(encoding="utf-8").splitlines()
    )
    # The rung that was lost is the only one that was begun twice.
    assert sorted(begun.values())[-2:] == [1, 2]


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_statuses_that_lead_to_a_restart(cluster: LocalCluster, tmp_path: Path) -> None:
    """75 does; 2, for what a person must mend, fails the task and no other."""
    client, server = cluster.client(), tmp_path / "hq"
    restarted = [sys.executable, "-m", "mordal_optuna.processes.restarting", "--"]
    once = f"[ -e {tmp_path}/tried ] && exit 0; touch {tmp_path}/tried; exit 75"
    ids = [
        submit([*restarted, "sh", "-c", code], 1, server, {"cpus": 1}, name="t", logs=tmp_path)
        for code in (once, "exit 2")
    ]
    jobs = [type("Job", (), {"id": number})() for number in ids]
    assert client.wait_for_jobs(jobs[:1], raise_on_error=False)
    assert not client.wait_for_jobs(jobs[1:], raise_on_error=False)
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
    assert "--nproc-per-node=4" in worker_command(file, gpus=4)


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
