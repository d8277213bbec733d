"""The command line: light to start, one sentence for a mistake, status 2 for a bad study file."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from mordal_optuna import cli

if TYPE_CHECKING:
    from pathlib import Path


def call(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit status and standard error of `mordal ...`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["mordal", *arguments])
        with pytest.raises(SystemExit) as caught:
            cli.main()
    return int(caught.value.code or 0), capsys.readouterr().err


def test_help_names_the_commands() -> None:
    shown = CliRunner().invoke(cli.app, ["--help"]).output
    assert "quickstart" in shown
    assert "run" in shown


def test_starting_loads_nothing_heavy() -> None:
    code = (
        "import sys, mordal_optuna.cli, mordal_optuna.config, mordal_optuna.driver, "
        "mordal_optuna.search.sampler, mordal_optuna.reporting.console; "
        "print([m for m in ('torch', 'transformers', 'lmms_eval') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_bad_study_file_exits_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "s.yaml").write_text("workdr: b\n")
    status, shown = call("run", str(tmp_path / "s.yaml"), capsys=capsys)
    assert status == 2
    assert "mordal: workdr: unknown key (value 'b'); allowed here: " in shown
    assert "Traceback" not in shown


def test_a_missing_study_file_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    status, shown = call("run", "none.yaml", capsys=capsys)
    assert (status, shown.strip()) == (2, "mordal: study file 'none.yaml' does not exist")


def test_an_unknown_method_exits_with_2(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    status, shown = call("quickstart", "--method", "magic", capsys=capsys)
    assert status == 2
    assert "allowed are mordal, mordal-faithful, grid" in shown


def test_an_interruption_says_how_to_go_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_run_to_end", interrupted)
    before = signal.getsignal(signal.SIGINT)
    try:
        status, shown = call("quickstart", capsys=capsys)
        ignored = signal.getsignal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert status == 130
    assert "the same command goes on" in shown
    assert ignored == signal.SIG_IGN, "a second Ctrl-C must not interrupt the leaving"
