"""Whole studies over LLMs of many chat families: several turns, bf16, one and two processes."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import yaml

from mordal_optuna.config import parse_study
from mordal_optuna.driver import load_study, run_study
from mordal_optuna.progress import Silent
from tests.chat_studies import chat_study
from tests.families.chats import CHATS

if TYPE_CHECKING:
    from pathlib import Path

    from mordal_optuna.study.result import StudyResult


def scores(result: StudyResult) -> dict[str, float]:
    """The score of each LLM's candidate after all samples."""
    return {
        candidate.llm: points[-1].score
        for candidate, points in result.curves.items()
        if points[-1].samples == 96
    }


@pytest.mark.slow
def test_every_family_learns_its_answer_and_stops(tmp_path: Path) -> None:
    """An answer that goes on after "red", or begins with a think block, would score 0."""
    settings = parse_study(chat_study(tmp_path, list(CHATS)))
    result = run_study(settings, Silent())
    assert result.failures == {}
    assert scores(result) == dict.fromkeys(CHATS, 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("part", [0, 1])
def test_two_processes_score_every_family_alike(tmp_path: Path, part: int) -> None:
    """Half of the families at a time, so that each test ends within its limit."""
    names = list(CHATS)[part::2]
    content = chat_study(tmp_path, names)
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(content))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"),
            *("--master_port", str(29741 + part), "-m", "mordal_optuna", "run", str(path)),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=115,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result = load_study(parse_study(content))
    assert result.failures == {}
    assert scores(result) == dict.fromkeys(names, 1.0)
