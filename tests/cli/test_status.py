"""`mordal status`: from a machine without models and data; ends with the study."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import optuna
from typer.testing import CliRunner

from mordal_optuna.cli import app as cli
from mordal_optuna.config import read_study
from mordal_optuna.search.attributes import CONFIG, FULL_SAMPLES, STOPPED_BECAUSE, store_value
from mordal_optuna.study.claims import study_storage
from tests.cli.calls import call, study_file

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_nothing_but_the_study_file_is_needed(tmp_path: Path) -> None:
    """Models and data are elsewhere; in a new process, no torch is loaded."""
    file = study_file(tmp_path)
    elsewhere = tmp_path / "elsewhere.yaml"
    elsewhere.write_text(file.read_text().replace("images: ", "images: /nowhere"))
    code = (
        "import sys; from mordal_optuna.cli import app as cli; "
        f"sys.argv = ['mordal', 'status', {str(elsewhere)!r}, '--json', '--as', 's-2']; "
        "import atexit; atexit.register(lambda: print('torch' in sys.modules)); cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    shown, torch = done.stdout.splitlines()
    found = json.loads(shown)
    assert (found["study"], found["state"], torch) == ("s-2", "not begun", "False")
    assert not (tmp_path / "run").exists()


def test_watching_ends_with_the_study(tmp_path: Path) -> None:
    file = study_file(tmp_path)
    settings = read_study(file)
    settings.workdir.mkdir()
    storage = study_storage(settings.storage_url())
    study = optuna.create_study(study_name="s", storage=storage, direction="maximize")
    store_value(study, CONFIG, settings.fingerprint())
    study.set_user_attr(FULL_SAMPLES, 65536)
    study.set_user_attr(STOPPED_BECAUSE, "race won")
    done = CliRunner().invoke(cli.app, ["status", str(file), "--watch", "--every", "0.5"])
    assert done.exit_code == 0
    assert "ended: race won" in done.stdout


def test_json_is_printed_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, shown = call("status", str(study_file(tmp_path)), "--json", "--watch", capsys=capsys)
    assert (status, shown.count("\n")) == (2, 1)
