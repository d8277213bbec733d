"""`mordal doctor`: one JSON object or a table, and the exit status."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from typer.testing import CliRunner

from mordal_optuna.cli import app as cli
from tests.chat_studies import chat_study
from tests.cli.calls import call, study_file

if TYPE_CHECKING:
    from pathlib import Path

LLM = "qwen2.5-instruct"


def written(tmp_path: Path, content: dict[str, Any]) -> str:
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(content))
    return str(path)


@pytest.mark.slow
def test_a_clean_study_ends_with_0_and_one_json_object(tmp_path: Path) -> None:
    """Progress goes to standard error."""
    file = written(tmp_path, chat_study(tmp_path, [LLM]))
    done = CliRunner().invoke(cli.app, ["doctor", file, "--json"])
    assert done.exit_code == 0, done.output
    content = json.loads(done.stdout)
    assert content["passed"] is True
    assert content["study"] == "chats"
    assert {f["subject"] for f in content["findings"]} >= {"study", "clip", LLM, f"clip + {LLM}"}
    assert "data and tasks" in done.stderr


@pytest.mark.slow
def test_a_failed_check_ends_with_2_and_a_table(tmp_path: Path) -> None:
    content = chat_study(tmp_path, [LLM])
    content["pool"]["vision_encoders"][0]["location"] = str(tmp_path / "gone")
    file = written(tmp_path, content)
    done = CliRunner().invoke(cli.app, ["doctor", file, "--only", "clip"])
    assert done.exit_code == 2
    assert "chats: checks on cpu" in done.stdout
    assert "failed" in done.stdout
    assert "no encoder, or no LLM, loads" in done.stdout  # and no pair of other models is tried


def test_several_processes_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    status, shown = call("doctor", str(study_file(tmp_path)), capsys=capsys)
    assert (status, shown.count("\n")) == (2, 1)
    assert "started as several processes" in shown
