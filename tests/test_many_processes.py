"""Eight processes on one database measure every rung once and find the same ranking."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING

import optuna
import pytest
from optuna.trial import TrialState

from mordal_optuna.search.attributes import RUNGS, STOPPED_BECAUSE
from mordal_optuna.search.history import candidate_of
from mordal_optuna.search.sampler import study_history
from mordal_optuna.study.claims import ClaimStore, study_storage
from mordal_optuna.study.objective import Objective
from tests.databases import new_database
from tests.replay_worker import GRID, STUDY, grid_search_plan
from tests.search.synthetic import believed
from tests.studies import new_study

if TYPE_CHECKING:
    from pathlib import Path

    from mordal_optuna.pool import Candidate


def start(database: str, folder: Path, number: object, *seconds: float) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.replay_worker", database, str(folder), str(number)]
    command += map(str, seconds)
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})


def begun(folder: Path) -> Counter[str]:
    """How often each rung was begun by the workers that do not die."""
    lines = [
        line
        for path in folder.glob("worker-*")
        if path.name != "worker-dies"
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    return Counter(lines)


def undisturbed() -> tuple[Counter[tuple[Candidate, int]], tuple]:
    plan = grid_search_plan()
    study = new_study(plan)
    study.optimize(Objective(plan, GRID.measurement))
    return paid(study), plan.ranking(study_history(study))


def paid(study: optuna.Study) -> Counter[tuple[Candidate, int]]:
    return Counter(
        (candidate_of(trial), int(samples))
        for trial in study.get_trials(deepcopy=False)
        for samples in trial.user_attrs.get(RUNGS, {})
        if int(samples) in trial.intermediate_values
    )


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "database",
    [pytest.param("sqlite", marks=pytest.mark.long), "postgresql", "mariadb"],
    indirect=True,
)
def test_eight_processes_end_the_search_after_the_death_of_a_ninth(
    database: str, tmp_path: Path
) -> None:
    """One of nine is killed in the middle of a job; the others end the search."""
    storage = study_storage(database)
    study = optuna.create_study(study_name=STUDY, storage=storage, direction="maximize")
    workers = [start(database, tmp_path, number) for number in ("dies", *range(8))]
    assert [worker.wait(timeout=200) for worker in workers[1:]] == [0] * 8
    assert workers[0].wait() == 9
    expected, ranking = undisturbed()
    assert paid(study) == expected
    assert max(expected.values()) == 1
    assert set(begun(tmp_path).values()) == {1}
    assert believed(grid_search_plan().ranking(study_history(study))) == believed(ranking)
    assert study.user_attrs[STOPPED_BECAUSE]
    assert ClaimStore(database, STUDY).claimed() == {}
    assert not study.get_trials(states=(TrialState.RUNNING,))


STOPS = """
import os, signal, sys
from pathlib import Path
from mordal_optuna.study.objective import Objective
from tests import replay_worker

report, stopped = Objective._report, []

def stopping(self, *given):
    if not stopped:
        stopped.append(True)
        os.kill(os.getpid(), signal.SIGSTOP)  # the claim was checked; nothing is stored yet
    report(self, *given)

Objective._report = stopping
replay_worker.main(sys.argv[1], Path(sys.argv[2]), "stops", 1.5)
"""


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_worker_stopped_before_it_stores_a_score_stores_none(
    postgresql: str, tmp_path: Path
) -> None:
    """SIGSTOP after the claim was checked; another worker ends the search; then SIGCONT."""
    database = new_database(postgresql)
    study = optuna.create_study(
        study_name=STUDY, storage=study_storage(database), direction="maximize"
    )
    late = subprocess.Popen([sys.executable, "-c", STOPS, database, str(tmp_path)])
    _, status = os.waitpid(late.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    assert start(database, tmp_path, 0, 1.5, 0.0).wait(timeout=200) == 0
    before = [(t.number, t.state, t.intermediate_values, t.user_attrs) for t in study.trials]
    os.kill(late.pid, signal.SIGCONT)
    assert late.wait(60) == 0
    assert [(t.number, t.state, t.intermediate_values, t.user_attrs) for t in study.trials] == (
        before
    )
    assert set(paid(study).values()) == {1}
    assert ClaimStore(database, STUDY).claimed() == {}
