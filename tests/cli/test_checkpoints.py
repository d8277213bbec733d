"""`mordal checkpoints` lists and deletes checkpoints."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
import yaml
from typer.testing import CliRunner

from mordal_optuna.alignment.checkpoint import Checkpoint, CheckpointStore
from mordal_optuna.alignment.train import TrunkState
from mordal_optuna.cli import app as cli

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def study_file(study_content: dict[str, Any], tmp_path: Path) -> Path:
    """A study with three rungs of one candidate and one of another."""
    study_content["checkpoints"] = {"folder": str(tmp_path / "kept")}
    store = CheckpointStore(tmp_path / "kept")
    for run, samples in (("a", 8), ("a", 16), ("a", 32), ("b", 8)):
        weights = {"w": torch.full((1000,), float(samples))}
        trunk = TrunkState(samples, weights, {"w/step": torch.tensor(1.0)}, None)
        store.save(run, {}, Checkpoint(samples, weights, trunk, 2.0, {}, f"clip + {run}"))
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(study_content))
    return path


def said(*arguments: str) -> str:
    result = CliRunner().invoke(cli.app, ["checkpoints", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_all_are_listed_with_their_sizes(study_file: Path) -> None:
    shown = said("ls", str(study_file))
    assert "4 checkpoints" in shown
    rows = json.loads(said("ls", str(study_file), "--json"))
    assert [(r["candidate"], r["samples"]) for r in rows] == [
        ("clip + a", 8),
        ("clip + a", 16),
        ("clip + a", 32),
        ("clip + b", 8),
    ]
    assert all(row["bytes"] > 4000 for row in rows)
    assert len({row["digest"] for row in rows}) == 3  # two hold the same numbers


def test_a_damaged_one_is_listed_as_such(study_file: Path, tmp_path: Path) -> None:
    (tmp_path / "kept" / "b" / "8" / "checkpoint.json").write_text("{}")
    rows = json.loads(said("ls", str(study_file), "--json"))
    (broken,) = [row for row in rows if row["problem"]]
    assert broken["run"] == "b"
    assert "does not read back" in broken["problem"]


def test_the_highest_rungs_stay(study_file: Path, tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "kept")
    assert "would delete a at 16 samples" in said("prune", str(study_file), "--dry-run")
    assert store.rungs("a") == [8, 16, 32]
    said("prune", str(study_file), "--keep", "2")
    assert (store.rungs("a"), store.rungs("b")) == ([16, 32], [8])
    said("prune", str(study_file))
    assert (store.rungs("a"), store.rungs("b")) == ([32], [8])
    store.load("a", 32)
    said("prune", str(study_file), "--keep", "0")
    assert store.files.runs() == ["a", "b"]
    assert (store.rungs("a"), store.rungs("b")) == ([], [])
