"""`mordal report`: of a study in any state, from its database alone."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from mordal_optuna.cli import app as cli
from mordal_optuna.config import read_study
from mordal_optuna.driver import load_study
from mordal_optuna.reporting.plain import to_json
from tests.cli.calls import call, study_file
from tests.stored import file_named, run_for
from tests.study.test_status import begun

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow  # the report loads plotly


def test_a_stopped_study_has_a_report_that_says_so_first(tmp_path: Path) -> None:
    """As after Ctrl-C: the phase, what is spent and left; nothing else is in the folder."""
    file = file_named(tmp_path)
    run_for(file, 3)
    done = CliRunner().invoke(cli.app, ["report", str(file), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    names = ["s.html", "s.json", "s.md"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    first, *files = done.stdout.splitlines()
    assert first.startswith("Not finished (searching); ")
    for part in ("of 4 pairs trained", "spent ", "left ", "no worker is alive"):
        assert part in first
    assert sorted(files) == [str(tmp_path / "out" / name) for name in names]
    markdown = (tmp_path / "out" / "s.md").read_text(encoding="utf-8")
    assert markdown.splitlines()[0].replace("\\", "") == f"**{first}**"
    plain = json.loads((tmp_path / "out" / "s.json").read_text(encoding="utf-8"))
    assert plain["unfinished"]["notice"] == first
    assert plain["unfinished"]["state"] == "searching"
    assert plain["unfinished"]["spent"]["total"] > 0
    assert len(plain["ranking"]) == 4


def test_a_finished_study_has_the_object_of_run_json(tmp_path: Path) -> None:
    """Beside the study, and without the line of an unfinished one."""
    file = file_named(tmp_path)
    settings = run_for(file)
    done = CliRunner().invoke(cli.app, ["report", str(file), "--format", "json"])
    path = settings.workdir / "s.json"
    assert done.stdout.splitlines() == [str(path)]
    plain = json.loads(path.read_text(encoding="utf-8"))
    assert plain == json.loads(json.dumps(to_json(load_study(settings))))
    assert plain["unfinished"] is None
    assert not (settings.workdir / "s.html").exists()


def test_no_torch_is_loaded_and_no_model_or_data_are_needed(tmp_path: Path) -> None:
    file = file_named(tmp_path)
    settings = run_for(file, 3)
    elsewhere = tmp_path / "elsewhere.yaml"
    elsewhere.write_text(file.read_text().replace("images: ", "images: /nowhere"))
    before = settings.workdir.joinpath("study.db").read_bytes()
    code = (
        "import sys; from mordal_optuna.cli import app as cli; "
        f"sys.argv = ['mordal', 'report', {str(file)!r}, '--out', {str(tmp_path)!r}]; "
        "import atexit; atexit.register(lambda: print('torch' in sys.modules)); cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
    assert (tmp_path / "s.html").stat().st_size > 1_000_000
    assert settings.workdir.joinpath("study.db").read_bytes() == before


def test_before_the_first_score_one_sentence_says_the_state(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And neither a database nor a folder is created."""
    file = study_file(tmp_path)
    sentence = (
        "mordal: study 's' has no score yet (state: {}); a report needs at least one; `mordal "
        "status` shows what is done\n"
    )
    shown = call("report", str(file), capsys=capsys)
    assert shown == (1, sentence.format("not begun"))
    assert not (tmp_path / "run").exists()
    settings = read_study(file)
    settings.workdir.mkdir()
    begun(settings)
    shown = call("report", str(file), capsys=capsys)
    assert shown == (1, sentence.format("comparing models"))


def test_a_study_whose_further_tasks_are_missing_is_not_finished(tmp_path: Path) -> None:
    file = file_named(tmp_path, more="also_score: [{name: other}]\n")
    run_for(file)
    done = CliRunner().invoke(cli.app, ["report", str(file), "--format", "md"])
    assert "scoring the winner on further tasks" in done.stdout.splitlines()[0]
