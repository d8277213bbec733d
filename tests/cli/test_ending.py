"""Every error ends a command by one sentence and a status; those of the program keep the trace."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
import typer
import yaml

from mordal_optuna import errors
from mordal_optuna.cli import study as commands
from mordal_optuna.cli.ending import AGAIN, FAILED, MEND, Call, ended_by
from tests.cli.calls import call

if TYPE_CHECKING:
    from pathlib import Path

PASSWORD = "tail-S3cret"


class UsageError(Exception):
    """As an error of a tracker."""

    __module__ = "wandb.errors"


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (errors.ConfigError(["seed: no"]), MEND, "seed: no"),
        (errors.TaskError("gqa", "no"), MEND, "task 'gqa': no"),
        (errors.ModelError("clip", "no"), MEND, "model 'clip': no"),
        (errors.DataError("a.json", "no"), MEND, "data 'a.json': no"),
        (errors.GridError("no"), MEND, "no"),
        (errors.FailedSearchError("no", "nan"), FAILED, "no (nan)"),
        (errors.SearchError("no score yet"), FAILED, "no score yet"),
        (errors.UnreachableStorageError(["storage: away"]), AGAIN, "storage: away"),
        (errors.BusyError("in 'run'", "wait"), AGAIN, "another process works in 'run'"),
        (errors.LastingOutageError("full", 14), AGAIN, "run the same command again"),
        (errors.StoreError("sqlite:///a", "locked"), AGAIN, "database 'sqlite:///a'"),
        (errors.StoreError("sqlite:///a", "no", mend=True), MEND, "database 'sqlite:///a'"),
        (OSError(28, "No space left on device", "a"), AGAIN, "run the same command again"),
        (OSError(36, "File name too long", "a"), MEND, "'a' cannot be used: file name too long"),
        (PermissionError(13, "Permission denied", "a"), MEND, "'a' cannot be used: permission"),
        (sa.exc.ProgrammingError("x", {}, Exception(PASSWORD)), FAILED, "(Exception)"),
        (sa.exc.ArgumentError(PASSWORD), FAILED, "(ArgumentError)"),
        (UsageError("no key"), MEND, "runtime.trackers: wandb cannot be used (UsageError: no key"),
        (yaml.YAMLError("line\n  one"), MEND, "a YAML file cannot be read: line one"),
    ],
)
def test_a_sentence_and_a_status(
    capsys: pytest.CaptureFixture[str], error: Exception, status: int, said: str
) -> None:
    assert ended_by(error, Call("run")) == status
    shown = capsys.readouterr().err
    assert shown.startswith("mordal: ")
    assert said in shown
    assert "Traceback" not in shown
    assert PASSWORD not in shown
    assert shown.count("\n") == 1


@pytest.mark.parametrize(
    "error", [TypeError("a"), AssertionError(), KeyError("a"), ValueError("b")]
)
def test_a_fault_of_the_program_is_not_hidden(
    capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    assert ended_by(error, Call("worker")) == FAILED
    *trace, last = capsys.readouterr().err.splitlines()
    assert type(error).__name__ in "\n".join(trace)
    assert "please report it" in last


def test_debug_shows_the_trace_beside_the_sentence(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A global option, before the command; the status stays the same."""
    found = [
        call(*option, "status", str(tmp_path / "none.yaml"), capsys=capsys)
        for option in ([], ["--debug"])
    ]
    assert [status for status, _ in found] == [2, 2]
    assert ["Traceback" in shown for _, shown in found] == [False, True]
    assert found[1][1].splitlines()[-1] == found[0][1].strip()


def test_an_interruption_has_no_trace(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a command has nothing to continue."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "quiet_libraries", interrupted)
    monkeypatch.setattr("mordal_optuna.config.read_study", lambda *_, **__: None)
    status, shown = call("retry", "s.yaml", capsys=capsys)
    assert (status, shown.strip()) == (130, "")
    assert ended_by(typer.Abort(), Call("run")) == 130
    assert capsys.readouterr().err.strip() == "mordal: interrupted"


@pytest.mark.slow
def test_a_bad_study_file_loads_no_torch(tmp_path: Path) -> None:
    """It is refused within two seconds, before optuna and torch are loaded."""
    file = tmp_path / "s.yaml"
    file.write_text("study: s\nworkdr: a\n")
    code = (
        "import atexit, sys; from mordal_optuna.cli import app; "
        f"sys.argv = ['mordal', 'run', {str(file)!r}]; "
        "atexit.register(lambda: print([m for m in ('torch', 'optuna', 'transformers') "
        "if m in sys.modules])); app.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (2, "[]")
    assert "workdr: unknown key" in done.stderr
