"""`mordal plan`: in a new process without torch; wrong options are one sentence."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.cli.calls import call, study_file

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
def test_a_plan_loads_no_torch(study_content: dict[str, Any], tmp_path: Path) -> None:
    """All of it: models, tokens, forecast; and nothing is written."""
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(study_content))
    code = (
        "import sys; from mordal_optuna.cli import app as cli; "
        f"sys.argv = ['mordal', 'plan', {str(file)!r}, '--json']; "
        "import atexit; atexit.register(lambda: print('torch' in sys.modules)); cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    shown, torch = done.stdout.splitlines()
    content = json.loads(shown)
    assert torch == "False"
    assert content["forecast"]["pairs"] == 4
    assert all(one["counted"] for one in content["data"]["tokens"].values())
    assert not (tmp_path / "run").exists()


def test_wrong_options_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(study_file(tmp_path))
    for options, sentence in (
        (("--device", "tpu"), "--device: got 'tpu'; allowed are h100"),
        (("--measure", "--rate", "3"), "--measure: given with --rate"),
        (("--rate", "0"), "--rate: got 0"),
    ):
        status, shown = call("plan", file, *options, capsys=capsys)
        assert (status, shown.count("\n")) == (2, 1)
        assert sentence in shown


def test_what_is_unknown_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Models that are nowhere: the plan ends well, without hours."""
    from typer.testing import CliRunner

    from mordal_optuna.cli import app as cli

    done = CliRunner().invoke(cli.app, ["plan", str(study_file(tmp_path))])
    assert done.exit_code == 0
    assert "not estimated: the sizes of clip, dino, llama, qwen are not known" in done.stdout
    assert "HF_HUB_OFFLINE is set" in done.stdout
    assert capsys.readouterr().err == ""
