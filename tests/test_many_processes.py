"""Eight processes on one database measure every rung once and find the same ranking."""

from __future__ import annotations

import os
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
