"""`mordal grid-file`: a file a task, a line about what it holds and lacks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from typer.testing import CliRunner

from mordal_optuna.cli import app as cli
from mordal_optuna.config import parse_study
from tests.cli.calls import call, study_file
from tests.replay.test_from_study import searched, settings_of, several_tasks
from tests.search.several import Several

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_study_becomes_a_file_that_replay_reads(tmp_path: Path) -> None:
    """The study's winner is the pick of the replay."""
    result = searched(settings_of(tmp_path, "grid"))
    arguments = ["grid-file", str(study_file(tmp_path)), "--method", "grid"]
    shown = CliRunner().invoke(cli.app, [*arguments, "--to", str(tmp_path / "grids")])
    assert shown.exit_code == 0
    path = tmp_path / "grids" / "s-grid.json"
    assert shown.stdout.startswith(f"written to {path}: 4 of 4 pairs have scores; no similarities")
    assert "missing" not in shown.stdout
    replayed = CliRunner().invoke(cli.app, ["replay", str(path), "--method", "grid", "--json"])
    winner = result.winner.candidate
    assert json.loads(replayed.stdout)["picked"] == [winner.vision_encoder, winner.llm]
    assert json.loads(replayed.stdout)["estimated_scores"] == 0


def test_a_part_is_refused_or_filled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    searched(settings_of(tmp_path, "grid"), trials=2)
    arguments = ["grid-file", str(study_file(tmp_path)), "--method", "grid", "--to", str(tmp_path)]
    shown = CliRunner().invoke(cli.app, arguments).stdout
    assert "2 of 4 pairs have scores" in shown
    assert "scores are missing, so `mordal replay` refuses it" in shown
    assert "the search has not ended" in shown
    path = str(tmp_path / "s-grid.json")
    status, said = call("replay", path, "--method", "grid", capsys=capsys)
    assert status == 2
    assert "has no curve, like 1 others of the 4 pairs" in said
    shown = CliRunner().invoke(cli.app, [*arguments, "--fill"]).stdout
    assert "scores are estimates, marked as such" in shown
    replayed = CliRunner().invoke(cli.app, ["replay", path, "--method", "grid"]).stdout
    assert "scores of t are estimates of a study, not measurements" in " ".join(replayed.split())


def test_several_tasks_make_a_file_each(tmp_path: Path) -> None:
    settings = parse_study(several_tasks(tmp_path))
    searched(settings, Several())
    (tmp_path / "study.yaml").write_text(json.dumps(several_tasks(tmp_path)))
    arguments = ["grid-file", str(tmp_path / "study.yaml"), "--to", str(tmp_path)]
    shown = CliRunner().invoke(cli.app, arguments).stdout
    assert shown.count("9 of 9 pairs have scores") == 2
    assert (tmp_path / "s.gqa.json").is_file()
    assert (tmp_path / "s.chartqa.json").is_file()


def test_neither_torch_nor_lmms_eval_is_loaded(tmp_path: Path) -> None:
    searched(settings_of(tmp_path, "grid"))
    code = (
        "import sys\nfrom mordal_optuna.cli.grid_file import grid_file\n"
        f"from pathlib import Path\ngrid_file(Path({str(study_file(tmp_path))!r}), "
        f"to=Path({str(tmp_path)!r}), method='grid')\n"
        "assert not {'torch', 'transformers', 'lmms_eval'} & set(sys.modules)"
    )
    paths = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": paths}, check=False
    )
    assert done.returncode == 0
