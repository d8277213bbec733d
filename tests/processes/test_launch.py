"""A whole search on two processes: the same result, and failures that reach both."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from optuna.trial import TrialState

from mordal_optuna.config import parse_study
from mordal_optuna.driver import run_study
from mordal_optuna.processes.launch import launched_rank, launched_world_size
from mordal_optuna.progress import Silent
from mordal_optuna.search.attributes import FAILURE
from mordal_optuna.search.history import read_history


@pytest.fixture
def content(study_content: dict[str, Any]) -> dict[str, Any]:
    """The tiny study, on all documents; `grid` trains every pair, so that failures are met."""
    return study_content | {"also_score": []}


def test_rank_and_world_size_are_read_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert (launched_rank(), launched_world_size()) == (0, 1)
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert (launched_rank(), launched_world_size()) == (2, 4)


def launch(study: dict[str, Any], folder: Path, *kinds: str) -> subprocess.CompletedProcess[str]:
    """Two gloo processes."""
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(study))
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"),
        *(str(Path(__file__).with_name("launched.py")), str(path), *kinds),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=200, check=False
    )


def scores(study: dict[str, Any]) -> dict[tuple[str, int], float]:
    """Every score that is stored, by candidate and rung."""
    settings = parse_study(study)
    history = read_history(
        optuna.load_study(study_name=settings.study, storage=settings.storage_url()).trials
    )
    return {
        (str(candidate), point.samples): point.score
        for candidate, known in history.candidates.items()
        for point in known.measurements
    }


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_processes_search_as_one(content: dict[str, Any], tmp_path: Path) -> None:
    """The same rungs, the same ranking; scores and costs are stored once, by process 0."""
    alone = run_study(parse_study(content), Silent())
    both = content | {"workdir": str(tmp_path / "both")}
    done = launch(both, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    found = run_study(parse_study(both), Silent())
    assert [e.candidate for e in found.ranking] == [e.candidate for e in alone.ranking]
    for ours, theirs in zip(found.ranking, alone.ranking, strict=True):
        assert ours.provenance == theirs.provenance
        assert ours.value == pytest.approx(theirs.value, abs=0.01)
    assert scores(both).keys() == scores(content).keys()
    for key, score in scores(content).items():
        assert scores(both)[key] == pytest.approx(score, abs=1 / 16 + 1e-9), key  # one document
    assert done.stdout.count("\nwinner ") == 1
    again = launch(both, tmp_path)  # finished: nothing is opened, and rank 1 ends as well
    assert again.returncode == 0, again.stderr[-3000:]
    assert again.stdout.count("\nwinner ") == 1


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_process_that_fails_ends_the_trial_for_both(
    content: dict[str, Any], tmp_path: Path
) -> None:
    """In training and in answering: the trial fails with that rank's reason, and no rank hangs."""
    grid = content | {"search": {**content["search"], "method": "grid"}}
    done = launch(grid, tmp_path, "fail")
    assert done.returncode == 0, done.stderr[-3000:]
    settings = parse_study(grid)
    study = optuna.load_study(study_name="tiny", storage=settings.storage_url())
    failed = study.get_trials(states=(TrialState.FAIL,))
    reasons = {
        (t.params["vision_encoder"], t.params["llm"]): t.user_attrs[FAILURE] for t in failed
    }
    assert reasons == {
        (
            "clip-t",
            "mistral-t",
        ): "training after 0 samples: RuntimeError: made to fail on process 1",
        ("dinov2-t", "llama-t"): "evaluation on 'mordal_scenes': no answer on process 1",
    }
    finished = {name for name, samples in scores(grid) if samples == 64}
    assert finished == {"clip-t + llama-t", "dinov2-t + mistral-t"}


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_process_that_vanishes_leaves_no_other_waiting(
    content: dict[str, Any], tmp_path: Path
) -> None:
    start = time.monotonic()
    done = launch(content, tmp_path, "vanish")
    assert done.returncode != 0
    assert time.monotonic() - start < 120
    assert launch(content, tmp_path).returncode == 0  # and the study goes on
