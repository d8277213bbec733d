"""The command line starts fast, reports errors in one sentence and exits with 2 for bad files."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from optuna.exceptions import StorageInternalError
from typer.testing import CliRunner

from mordal_optuna.cli import app as cli
from mordal_optuna.cli import study as commands
from mordal_optuna.errors import InputsChangedError
from mordal_optuna.files.inputs import Change
from tests.cli.calls import call

if TYPE_CHECKING:
    from pathlib import Path


def test_help_names_the_commands() -> None:
    shown = CliRunner().invoke(cli.app, ["--help"]).output
    names = ("quickstart", "run", "export", "retry", "replay", "checkpoints")
    places = [shown.index(f" {name} ") for name in names]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("modules", "heavy"),
    [
        ("mordal_optuna.cli.app", "torch optuna numpy pydantic sqlalchemy rich.table"),
        (
            "mordal_optuna.config, mordal_optuna.driver, mordal_optuna.exporting, "
            "mordal_optuna.search.sampler, mordal_optuna.replay.compare, "
            "mordal_optuna.reporting.console",
            "torch transformers lmms_eval",
        ),
    ],
)
def test_importing_loads_nothing_heavy(modules: str, heavy: str) -> None:
    """`mordal --help` stays fast; studies, replays and reports need no torch."""
    code = f"import sys, {modules}; print([m for m in {heavy.split()} if m in sys.modules])"
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


def test_an_outage_is_one_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outside of trials it is not waited out; the text of the database's error is not shown."""

    def out(*_: object, **__: object) -> None:
        raise StorageInternalError("postgresql://me:secret@host")

    monkeypatch.setattr(commands, "run_to_end", out)
    status, shown = call("quickstart", capsys=capsys)
    assert (status, shown.count("\n")) == (75, 1)
    assert "the study's storage failed (StorageInternalError); run the same command" in shown


def test_changed_inputs_exit_with_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(*_: object, **__: object) -> None:
        raise InputsChangedError("s", [Change("llm:qwen2-s", "chat template")])

    monkeypatch.setattr(commands, "run_to_end", changed)
    status, shown = call("quickstart", capsys=capsys)
    assert (status, shown.count("\n")) == (2, 1)
    assert "changed: the chat template of qwen2-s; put it back" in shown
