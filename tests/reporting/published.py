"""A small search whose worker keeps the dashboard up to date, and pages as Chromium shows them."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import threading
from contextlib import contextmanager
from dataclasses import dataclass, replace
from html import unescape
from typing import TYPE_CHECKING

import optuna
import pytest

from mordal_optuna.errors import TrainingError
from mordal_optuna.pool import Candidate
from mordal_optuna.reporting.publishing import Publisher, publish_in_turn
from mordal_optuna.reporting.report import write_reports
from mordal_optuna.reporting.serving import dashboard_server
from mordal_optuna.search.pruner import LogLinearHalvingPruner
from mordal_optuna.search.sampler import CkaClusterSampler
from mordal_optuna.study.claims import ClaimStore, study_storage
from mordal_optuna.study.objective import Objective
from mordal_optuna.study.result import Representation, StudyResult, read_result
from mordal_optuna.study.task_results import mean_of
from mordal_optuna.study.task_studies import TaskStudies
from mordal_optuna.study.worker import Worker
from tests.reporting.results import SIMILARITY
from tests.search.several import WEIGHTS, Several
from tests.search.synthetic import plan, tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mordal_optuna.search.curves import Measurement

BROKEN = Candidate("dino", "mistral")
REASON = "training after 0 samples: the tokenizer has no image token"
_CHROMIUM = shutil.which("chromium")
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1400,4000",
    "--virtual-time-budget=20000",
    "--dump-dom",
)


@dataclass
class Searched:
    """A finished search for two tasks.

    Attributes:
        address: address of its database.
        study: the study.
        result: its result.
    """

    address: str
    study: optuna.Study
    result: StudyResult


class _OneBroken(Several):
    """One pair cannot be trained."""

    def __call__(self, candidate: Candidate, samples: int) -> Measurement:
        """Measure, as the objective asks for it."""
        if candidate == BROKEN:
            raise TrainingError(0, REASON.split(": ")[1])
        return super().__call__(candidate, samples)


def searched(folder: Path) -> Searched:
    """Search by a worker that tells the dashboard, as `mordal run` does."""
    chosen, address = plan(finalists=3), f"sqlite:///{folder / 'study.db'}"
    storage = study_storage(address)
    study = optuna.create_study(
        study_name="synthetic",
        storage=storage,
        direction="maximize",
        sampler=CkaClusterSampler(chosen, seed=0),
        pruner=LogLinearHalvingPruner(chosen),
    )
    named = {"method": "mordal", "task": mean_of(WEIGHTS), "tasks": WEIGHTS}
    publisher = Publisher(study, chosen, address=address, **named)  # type: ignore[arg-type]
    claims = ClaimStore(address, study.study_name)
    Worker(
        study,
        chosen,
        Objective(chosen, _OneBroken(), claims=claims),
        claims,
        patience_seconds=60,
        poll_seconds=0.0,
        task_studies=TaskStudies(study, chosen, WEIGHTS, storage=storage, address=address),
        describe=publisher.describe,
        published=publisher.update,
    ).run()
    result = read_result(study, chosen, **named)  # type: ignore[arg-type]
    times = {"features": 1.0, "similarity": 0.5, "warmup": 2.0}
    compared = Representation(SIMILARITY, {"clip": SIMILARITY}, tree(), times)
    return Searched(address, study, replace(result, representation=compared))


@contextmanager
def served(found: Searched, folder: Path) -> Iterator[str]:
    """Publish a result with its report, and serve it; yields the server's address."""
    folder.mkdir()
    report = write_reports(found.result, folder, dashboard_command="open")[0]
    store = folder / "artifacts"
    assert publish_in_turn(found.address, found.study, found.result, report=report, folder=store)
    storage = study_storage(found.address)
    with dashboard_server(storage, store, host="127.0.0.1", port=0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def shown_in_chromium(address: str, *flags: str) -> str:
    """What a page's document holds after its scripts have run, without entities.

    Further flags of Chromium may follow the address.
    """
    if _CHROMIUM is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    with tempfile.TemporaryDirectory(prefix="mordal-", ignore_cleanup_errors=True) as profile:
        command = [_CHROMIUM, *_FLAGS, *flags, f"--user-data-dir={profile}", address]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=250)
    return unescape(done.stdout)
