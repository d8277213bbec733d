"""`mordal quickstart`, `run` and `retry`: what they print, and how they end."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from optuna.trial import TrialState, create_trial
from typer.testing import CliRunner

from mordal_optuna.cli import app as cli
from mordal_optuna.cli import study as commands
from mordal_optuna.config import read_study
from mordal_optuna.driver import open_study
from mordal_optuna.search.attributes import FAILURE, PAIR
from mordal_optuna.search.methods.grid import grid_plan
from mordal_optuna.study.result import read_result
from tests.cli.calls import call, study_file
from tests.search.synthetic import FULL, RUNGS, plan, search, table, tree

if TYPE_CHECKING:
    from pathlib import Path

    from mordal_optuna.study.result import StudyResult


def test_an_unknown_method_exits_with_2(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    status, shown = call("quickstart", "--method", "magic", capsys=capsys)
    assert status == 2
    assert "allowed are mordal, mordal-faithful, joint, grid" in shown


def test_a_retry_says_what_it_clears_and_loads_nothing_heavy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a new process: first one candidate, then all, then none is left."""
    file = study_file(tmp_path)
    (tmp_path / "run").mkdir()
    study = open_study(read_study(file))
    for pair in (["clip", "qwen"], ["dino", "llama"]):
        attributes = {PAIR: pair, FAILURE: "the loss is nan"}
        study.add_trial(create_trial(state=TrialState.FAIL, user_attrs=attributes))
    code = (
        "import sys; from mordal_optuna.cli import app as cli; "
        f"sys.argv = ['mordal', 'retry', {str(file)!r}, '--candidate', 'dino + llama']; "
        "import atexit; atexit.register(lambda: print('torch' in sys.modules)); cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "cleared dino + llama: the loss is nan",
        "`mordal run` tries them again",
        "False",
    ]
    shown = CliRunner().invoke(cli.app, ["retry", str(file)]).stdout
    assert "cleared clip + qwen: the loss is nan" in shown
    assert call("retry", str(file), capsys=capsys) == (
        1,
        "mordal: study 's' has no failed candidate; nothing to clear\n",
    )
    status, shown = call("retry", str(file), "--candidate", "vit + qwen", capsys=capsys)
    assert (status, shown.count("\n")) == (2, 1)
    assert "--candidate: got 'vit + qwen'" in shown


@pytest.mark.parametrize("command", ["run", "export", "retry"])
def test_a_file_can_be_run_under_another_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """Every command opens the study of that name; names follow the rules of study names."""
    file = study_file(tmp_path)
    more = [str(tmp_path / "out")] if command == "export" else []
    status, shown = call(command, str(file), *more, "--as", "no name", capsys=capsys)
    assert status == 2
    assert "study: got 'no name'" in shown
    if command != "run":
        shown = call(command, str(file), *more, "--as", "s-2", capsys=capsys)[1]
        assert "study 's-2'" in shown


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """The methods that the quick start was run with; its searches are synthetic."""
    methods: list[str | None] = []
    plans = {None: plan(), "grid": grid_plan(tree(), (*RUNGS, FULL))}

    def run(study_file: Path, method: str | None, *_: object, **__: object) -> StudyResult:
        assert study_file.name == "quickstart.yaml"
        methods.append(method)
        done = search(plans[method], table())
        return read_result(done, plans[method], method=method or "mordal", task="gqa")

    monkeypatch.setattr(commands, "run_to_end", run)
    return methods


def test_a_check_searches_first_and_then_trains_the_grid(asked: list[str | None]) -> None:
    """Both side by side at the end; without the option no grid is trained."""
    shown = CliRunner().invoke(cli.app, ["quickstart", "--check"]).stdout
    assert asked == [None, "grid"]
    assert "the search picked the best pair of the grid, siglip + qwen" in " ".join(shown.split())
    assert max(map(len, shown.splitlines())) <= 100
    assert not CliRunner().invoke(cli.app, ["quickstart"]).stdout
    assert asked == [None, "grid", None]


def test_a_grid_is_not_checked_against_itself(
    asked: list[str | None], capsys: pytest.CaptureFixture[str]
) -> None:
    status, shown = call("quickstart", "--check", "--method", "grid", capsys=capsys)
    assert (status, shown.count("\n")) == (2, 1)
    assert "--check: got --method grid; " in shown
    assert not asked


def test_ranks_other_than_0_print_no_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "run_to_end", lambda *_, **__: None)
    shown = CliRunner().invoke(cli.app, ["quickstart", "--check"])
    assert (shown.exit_code, shown.stdout) == (0, "")


def test_an_interruption_says_how_to_continue(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "run_to_end", interrupted)
    before = signal.getsignal(signal.SIGINT)
    try:
        status, shown = call("quickstart", capsys=capsys)
        ignored = signal.getsignal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert status == 130
    assert "run the same command again to continue" in shown
    assert ignored == signal.SIG_IGN, "a second Ctrl-C must not interrupt the exit"
