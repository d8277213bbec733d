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
from mordal_optuna.pool import Candidate
from mordal_optuna.progress import Silent
from tests.chat_studies import chat_study
from tests.families.chats import CHATS

if TYPE_CHECKING:
    from pathlib import Path

    from mordal_optuna.study.result import StudyResult


# For the study on one process; the others are in those on two.
EIGHT = (
    *("vicuna-1.5", "llama-3.2-instruct", "qwen2.5-instruct", "qwen3", "smollm3", "gemma-2-it"),
    *("phi-3.5-mini", "mistral-v0.3"),
)


def scores(result: StudyResult) -> dict[str, float]:
    """The score of each LLM's candidate after all samples."""
    return {
        candidate.llm: points[-1].score
        for candidate, points in result.curves.items()
        if points[-1].samples == 96
    }


@pytest.mark.slow
def test_eight_families_learn_their_answer_and_stop(tmp_path: Path) -> None:
    """An answer that goes on after "red", or begins with a think block, would score 0."""
    settings = parse_study(chat_study(tmp_path, EIGHT))
    result = run_study(settings, Silent())
    assert result.failures == {}
    assert scores(result) == dict.fromkeys(EIGHT, 1.0)


@pytest.mark.slow
def test_an_llm_whose_template_cannot_be_trained_with_fails_alone(tmp_path: Path) -> None:
    """With its reason, though the LLMs are compared; it is a cluster by itself, like no other."""
    names = ["vicuna-1.5", "mistral-v0.3", "qwen2.5-instruct"]
    search = {"method": "mordal", "first_ratio": 0.25, "max_ratio": 0.5, "finalists": 1}
    content = chat_study(tmp_path, names, search={**search, "llm_threshold": -1.0})
    endless = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    content["pool"]["llms"][1]["chat_template"] = endless
    result = run_study(parse_study(content), Silent())
    faulty = Candidate("clip", "mistral-v0.3")
    assert list(result.failures) == [faulty]
    assert "it would never learn to stop" in result.failures[faulty]
    assert result.winner.candidate.llm in {"vicuna-1.5", "qwen2.5-instruct"}
    assert result.representation
    found = [set(c.llm.members) for c in result.representation.tree.clusters]
    assert found == [{"vicuna-1.5", "qwen2.5-instruct"}, {"mistral-v0.3"}]
    (rows,) = result.representation.llm_similarity.values()
    assert rows[1] == (-1.0, 1.0, -1.0)


@pytest.mark.long
@pytest.mark.parametrize("part", [0, 1, 2, 3])
def test_two_processes_score_every_family_alike(tmp_path: Path, part: int) -> None:
    """A few families at a time, so that each test ends within its limit.

    The first part has those whose templates rewrite turns or end them by other tokens than eos.
    """
    special = ["gemma-2-it", "phi-3.5-mini", "qwen3"]
    others = [name for name in CHATS if name not in special]
    names = others[part - 1 :: 3] if part else special
    content = chat_study(tmp_path, names)
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(content))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc_per_node", "2", "-m", "mordal_optuna", "run", str(path)),
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
