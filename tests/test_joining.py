"""Several `mordal worker`s on one study: the search of one, and none in the way of another."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
import pytest
import yaml
from optuna.trial import TrialState

from mordal_optuna.alignment.files import CheckpointFiles
from mordal_optuna.config import parse_study
from mordal_optuna.driver import load_study, run_study
from mordal_optuna.errors import BusyError
from mordal_optuna.joining import join_study, report_once
from mordal_optuna.progress import Silent
from mordal_optuna.search.attributes import (
    INTERRUPTED,
    REPORTED,
    RUNGS,
    STOPPED_BECAUSE,
)
from mordal_optuna.search.history import candidate_of
from mordal_optuna.study.claims import ClaimStore
from mordal_optuna.study.membership import joined
from mordal_optuna.study.ownership import alone_on, open_runs
from tests import databases

if TYPE_CHECKING:
    from mordal_optuna.config import StudySettings
    from mordal_optuna.study.result import StudyResult

ROOT = Path(__file__).parents[1]
MORDAL = [sys.executable, "-m", "mordal_optuna"]


def shared(content: dict[str, Any], folder: Path, storage: str, machine: str) -> Path:
    """Study file of a machine: a folder of its own; storage and shared files are common."""
    own = {"workdir": str(folder / machine), "storage": storage}
    file = folder / f"{machine}.yaml"
    file.write_text(yaml.safe_dump(content | own | {"shared": str(folder / "shared")}))
    return file


def start(command: list[str], *arguments: object, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*command, *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(*workers: subprocess.Popen[str]) -> list[int]:
    """Exit statuses; what a worker printed is shown if the test fails."""
    for worker in workers:
        sys.stdout.write(worker.communicate(timeout=400)[0])
    return [worker.returncode for worker in workers]


def ranking(result: StudyResult) -> list[tuple[Any, float]]:
    return [(e.candidate, e.value) for e in result.ranking]


def digests(settings: StudySettings) -> dict[tuple[str, int], str]:
    """Digest of the numbers of each checkpoint."""
    files = CheckpointFiles(settings.checkpoint_folder())
    return {(r, n): files.manifest(r, n).digest for r in files.runs() for n in files.rungs(r)}


def check_ended_well(settings: StudySettings, whole: StudyResult, expected: Any) -> None:
    """The ranking and weights of one worker; every rung once; nothing left behind."""
    result = load_study(settings)
    assert ranking(result) == ranking(whole)
    assert result.representation
    assert whole.representation
    assert result.representation.tree == whole.representation.tree
    assert result.representation.llm_similarity == whole.representation.llm_similarity
    assert digests(settings) == expected
    address = settings.storage_url()
    study = optuna.load_study(study_name=settings.study, storage=address)
    measured = Counter(
        (candidate_of(trial), samples)
        for trial in study.get_trials(deepcopy=False)
        for samples in trial.user_attrs.get(RUNGS, {})
    )
    assert set(measured.values()) == {1}
    assert len(measured) == len(expected)
    assert not study.get_trials(states=(TrialState.RUNNING,))
    assert ClaimStore(address, settings.study).claimed() == {}
    # The pause of the dashboard is a lease that is left to expire.
    left = [row.study for row in open_runs(address).rows()]
    assert [name for name in left if "dashboard pause" not in name] == []
    assert [score.task for score in result.further_scores] == [
        score.task for score in whole.further_scores
    ]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_workers_with_separate_folders_end_as_one(
    study_content: dict[str, Any], tmp_path: Path, postgresql: str
) -> None:
    """On PostgreSQL; the first is asked to end in the middle of a rung and exits with 75."""
    whole = run_study(parse_study(study_content), Silent())
    expected = digests(parse_study(study_content))
    address = databases.new_database(postgresql)
    files = [shared(study_content, tmp_path, address, machine) for machine in "abc"]
    first = start([sys.executable, "-m", "tests.terminated_worker"], 16, 32, files[0])
    assert ended(first) == [75]
    settings = parse_study(yaml.safe_load(files[1].read_text()))
    study = optuna.load_study(study_name="tiny", storage=address)
    (stopped,) = study.get_trials(states=(TrialState.FAIL,))
    assert "SIGTERM" in stopped.user_attrs[INTERRUPTED]
    assert ClaimStore(address, "tiny").claimed() == {}
    unfinished = list(Path(settings.checkpoint_folder()).glob("*/unfinished/24/checkpoint*.json"))
    assert len(unfinished) == 1
    workers = [start(MORDAL, "worker", file) for file in files[1:]]
    assert ended(*workers) == [0, 0]
    check_ended_well(settings, whole, expected)
    assert not list(Path(settings.checkpoint_folder()).glob("*/unfinished/*/checkpoint*.json"))
    # Their own folders are gone; what all use lies in the shared one.
    assert sorted(path.name for path in (tmp_path / "shared").iterdir()) == [
        "checkpoints",
        "representation",
    ]
    for machine in "abc":
        left = {p.name for p in (tmp_path / machine).iterdir()}
        assert left - {"tiny.html", "tiny.md", "tiny.json", "artifacts"} == {"workers"}
        assert not any((tmp_path / machine / "workers").iterdir())
    assert len(list(tmp_path.glob("*/tiny.html"))) == 1


@pytest.mark.long
@pytest.mark.timeout(900)
def test_run_with_workers_ends_as_one_and_prints_the_result(
    study_content: dict[str, Any], tmp_path: Path
) -> None:
    """On SQLite in one folder; their notes have a prefix; a second call only prints."""
    whole = run_study(parse_study(study_content), Silent())
    expected = digests(parse_study(study_content))
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(study_content | {"workdir": str(tmp_path / "two")}))
    run = start(MORDAL, "run", file, "--workers", 2)
    shown = run.communicate(timeout=800)[0]
    assert run.returncode == 0, shown
    assert "[1] [" in shown
    assert "[2] [" in shown
    assert re.search(rf"winner +{re.escape(str(whole.winner.candidate))}", shown)
    assert (tmp_path / "two" / "tiny.html").is_file()
    check_ended_well(parse_study(yaml.safe_load(file.read_text())), whole, expected)
    again = start(MORDAL, "run", file, "--workers", 2)
    shown = again.communicate(timeout=100)[0]
    assert again.returncode == 0
    assert "[1]" not in shown
    assert "winner" in shown


@pytest.mark.long
@pytest.mark.timeout(900)
def test_two_workers_of_two_ranks_each_end_a_search(
    study_content: dict[str, Any], tmp_path: Path, postgresql: str
) -> None:
    """Both as torchrun starts them, on CPUs; every rung once, and the ranking is complete."""
    address = databases.new_database(postgresql)
    files = [shared(study_content, tmp_path, address, machine) for machine in "ab"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*launcher, "--nproc-per-node=2", "-m", "mordal_optuna", "worker"]
    workers = [start(command, file) for file in files]
    assert ended(*workers) == [0, 0]
    settings = parse_study(yaml.safe_load(files[0].read_text()))
    result = load_study(settings)
    assert result.final
    assert {e.candidate for e in result.ranking} == set(settings.models().candidates)
    study = optuna.load_study(study_name="tiny", storage=address)
    measured = Counter(
        (candidate_of(trial), samples)
        for trial in study.get_trials(deepcopy=False)
        for samples in trial.user_attrs.get(RUNGS, {})
    )
    assert set(measured.values()) == {1}
    assert not study.get_trials(states=(TrialState.RUNNING,))


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_group_of_ranks_leaves_together_whichever_gets_the_signal(
    study_content: dict[str, Any], tmp_path: Path
) -> None:
    """One rank, all ranks as from Slurm, or the launcher: one step, one checkpoint, status 75.

    Each launch goes on where the last one left; a single process ends the study.
    """
    study_content["alignment"]["batch_size"] = 4
    study_content |= {"also_score": [], "search": {"method": "popular"}}
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(study_content))
    settings = parse_study(study_content)
    launcher = [sys.executable, "-m", "mordal_optuna.processes.torchrun", "--standalone"]
    command = [*launcher, "--nproc-per-node=2", "-m", "tests.terminated_worker"]
    signalled = tmp_path / "time"
    for position, ranks in ((16, "1"), (20, "0"), (24, "all"), (28, "launcher")):
        chosen = {"MORDAL_TEST_RANKS": ranks, "MORDAL_TEST_TIME": str(signalled)}
        assert ended(start(command, position, 64, file, **chosen)) == [75], ranks
        # LEAVE_SECONDS and the end of the launcher; the machine may be busy.
        assert time.time() - float(signalled.read_text()) < 90
        unfinished = Path(settings.checkpoint_folder()).glob("*/unfinished/*/checkpoint*.json")
        assert [path.parent.name for path in unfinished] == [str(position + 4)]
        study = optuna.load_study(study_name="tiny", storage=settings.storage_url())
        assert not study.get_trials(states=(TrialState.RUNNING,))
        assert "SIGTERM" in study.trials[-1].user_attrs[INTERRUPTED]
        assert ClaimStore(settings.storage_url(), "tiny").claimed() == {}
    assert ended(start(MORDAL, "worker", file)) == [0]
    assert load_study(settings).final


def test_a_worker_and_a_run_alone_exclude_each_other(
    study_content: dict[str, Any], tmp_path: Path
) -> None:
    settings = parse_study(study_content)
    settings.workdir.mkdir()
    address = settings.storage_url()
    with alone_on(address, "tiny"), pytest.raises(BusyError, match="study 'tiny'"):
        join_study(settings, Silent(), scratch=tmp_path / "scratch")
    with joined(address, "tiny"), joined(address, "tiny"):
        with pytest.raises(BusyError, match="study 'tiny'"):
            run_study(settings, Silent())
        with alone_on(address, "other"):
            pass
    with alone_on(address, "tiny"):
        pass


def test_the_end_of_a_study_is_reported_once_and_again_after_it_went_on(
    study_content: dict[str, Any],
) -> None:
    settings = parse_study(study_content)
    settings.workdir.mkdir()
    study = optuna.create_study(study_name="tiny", storage=settings.storage_url())
    study.set_user_attr(STOPPED_BECAUSE, "race won")
    reports: list[int] = []

    def report() -> None:
        reports.append(len(study.trials))

    report_once(settings, report)
    report_once(settings, report)
    assert reports == [0]
    study.add_trial(optuna.trial.create_trial(state=TrialState.FAIL))
    with pytest.raises(ZeroDivisionError):
        report_once(settings, lambda: 1 // 0)  # another worker reports then
    report_once(settings, report)
    assert reports == [0, 1]
    assert study.user_attrs[REPORTED] == ["race won", 1]
