"""Clocks of machines that differ by ten minutes: leases, ages and costs stay right."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import optuna
import pytest
import yaml
from optuna.trial import TrialState

from mordal_optuna.config import parse_study
from mordal_optuna.errors import StoreError
from mordal_optuna.search.attributes import RUNGS, STOPPED_BECAUSE
from mordal_optuna.search.history import candidate_of
from mordal_optuna.search.sampler import study_history
from mordal_optuna.study.claims import ClaimStore, study_storage
from mordal_optuna.study.status import read_status
from tests import databases
from tests.replay_worker import STUDY, grid_search_plan
from tests.search.synthetic import believed
from tests.test_many_processes import begun, paid, undisturbed

if TYPE_CHECKING:
    from pathlib import Path

SKEW = 600.0


def start(seconds: float, module: str, *arguments: object) -> subprocess.Popen[bytes]:
    """A process whose clock is wrong by so many seconds."""
    command = [sys.executable, "-m", "tests.shifted", str(seconds), module, *map(str, arguments)]
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "database",
    [
        "postgresql",
        *(pytest.param(name, marks=pytest.mark.long) for name in ("sqlite", "mariadb")),
    ],
    indirect=True,
)
def test_no_claim_is_stolen_by_a_clock_that_is_fast(database: str, tmp_path: Path) -> None:
    """Three clocks; a rung takes longer than a renewal, and the lease is much below the skew."""
    study = optuna.create_study(
        study_name=STUDY, storage=study_storage(database), direction="maximize"
    )
    workers = [
        start(skew, "tests.replay_worker", database, tmp_path, number, 6.0, 0.2)
        for number, skew in enumerate((0.0, SKEW, -SKEW))
    ]
    assert [worker.wait(timeout=200) for worker in workers] == [0] * 3
    expected, ranking = undisturbed()
    assert paid(study) == expected
    assert set(begun(tmp_path).values()) == {1}
    assert believed(grid_search_plan().ranking(study_history(study))) == believed(ranking)
    assert study.user_attrs[STOPPED_BECAUSE]
    assert ClaimStore(database, STUDY).claimed() == {}
    assert not study.get_trials(states=(TrialState.RUNNING,))
    starts = [t.datetime_start for t in study.get_trials(deepcopy=False) if t.datetime_start]
    assert (max(starts) - min(starts)).total_seconds() > SKEW  # their clocks were wrong


@pytest.mark.long
@pytest.mark.timeout(900)
def test_workers_on_machines_with_other_clocks_end_a_study(
    study_content: dict[str, Any], tmp_path: Path, postgresql: str
) -> None:
    """Real ones; what `mordal status` shows meanwhile, on a third clock, is right."""
    address = databases.new_database(postgresql)
    study_content |= {"also_score": [], "storage": address}
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(study_content))
    settings = parse_study(study_content)
    began = time.monotonic()
    workers = [start(skew, "mordal_optuna", "worker", file) for skew in (0.0, SKEW)]
    seen: set[str] = set()
    while any(worker.poll() is None for worker in workers):
        try:
            status = read_status(settings)
        except StoreError:
            continue  # the first worker has not made the tables yet
        for worker in status.workers:
            seen.add(worker.name)
            elapsed = time.monotonic() - began + 5
            assert 0 <= worker.doing_seconds <= worker.seconds + 1 <= elapsed
        assert status.left is None or status.left >= 0
        assert 0 <= status.costs.total < 2 * (time.monotonic() - began) + 5
        time.sleep(0.3)
    assert [worker.returncode for worker in workers] == [0, 0]
    assert len(seen) == 2
    assert read_status(settings).state == "ended"
    study = optuna.load_study(study_name="tiny", storage=address)
    trials = study.get_trials(deepcopy=False)
    measured = Counter((candidate_of(t), n) for t in trials for n in t.user_attrs.get(RUNGS, {}))
    assert set(measured.values()) == {1}
    assert {t.state for t in trials} <= {TrialState.COMPLETE, TrialState.PRUNED}
    assert ClaimStore(address, "tiny").claimed() == {}
