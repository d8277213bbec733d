"""The command line: light to start, one sentence for a mistake, status 2 for a bad study file."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState, create_trial
from typer.testing import CliRunner

from mordal_optuna.cli import app as cli
from mordal_optuna.config import read_study
from mordal_optuna.driver import open_study
from mordal_optuna.errors import InputsChangedError
from mordal_optuna.files.inputs import Change
from mordal_optuna.replay.synthetic import synthetic_grid
from mordal_optuna.search.attributes import FAILURE, PAIR
from mordal_optuna.search.methods import grid_plan
from mordal_optuna.study.result import read_result
from tests.search.synthetic import FULL, RUNGS, plan, search, table, tree

if TYPE_CHECKING:
    from pathlib import Path

    from mordal_optuna.study.result import StudyResult


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
    assert "retry" in shown


def test_starting_loads_nothing_heavy() -> None:
    code = (
        "import sys, mordal_optuna.cli.app, mordal_optuna.config, mordal_optuna.driver, "
        "mordal_optuna.search.sampler, mordal_optuna.reporting.console, "
        "mordal_optuna.cli.replay; "
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


def study_file(folder: Path) -> Path:
    """A study named `s`."""
    file = folder / "study.yaml"
    models = "[{name: %s, location: a}, {name: %s, location: b}]"
    file.write_text(
        f"study: s\nworkdir: {folder}/run\ntask: {{name: t}}\npool:\n"
        f"  vision_encoders: {models % ('clip', 'dino')}\n  llms: {models % ('llama', 'qwen')}\n"
        f"alignment: {{conversations: {file}, images: {folder}}}\n"
    )
    return file


def test_a_retry_says_what_it_clears_and_loads_nothing_heavy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a process of its own; one candidate first, then all, then none is left."""
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


@pytest.fixture
def grid_file(tmp_path: Path) -> Path:
    path = tmp_path / "grid.json"
    grid = synthetic_grid(0, encoders=3, llms=3)
    path.write_text(grid.model_dump_json(exclude_none=True), encoding="utf-8")
    return path


def test_replay_prints_exactly_one_json_object(grid_file: Path) -> None:
    arguments = ["replay", str(grid_file), "--method", "mordal", "--workers", "2", "--json"]
    shown = CliRunner().invoke(cli.app, arguments)
    assert shown.exit_code == 0
    found = json.loads(shown.stdout)
    assert found["method"] == "mordal"
    assert len(found["ranking"]) == 9


def test_replay_takes_the_preset(grid_file: Path) -> None:
    rankings = []
    for arguments in (["--preset", "faithful"], ["--method", "mordal-faithful"], []):
        shown = CliRunner().invoke(cli.app, ["replay", str(grid_file), *arguments, "--json"])
        rankings.append(json.loads(shown.stdout)["ranking"])
    assert rankings[0] == rankings[1] != rankings[2]


def test_replay_shows_a_ranking_to_people(grid_file: Path) -> None:
    shown = CliRunner().invoke(cli.app, ["replay", str(grid_file)]).stdout
    for word in ("encoder-0", "llm-2", "tau", "regret", "full runs", "race won"):
        assert word in shown


def test_replay_compares_methods_in_two_tables(grid_file: Path) -> None:
    arguments = ["replay", str(grid_file), "--compare", "mordal,grid", "--seeds", "2"]
    shown = CliRunner().invoke(cli.app, arguments).stdout
    assert "2 seed(s)" in shown
    found, said = shown.split("reliability of the answer")
    assert [line.split()[0] for line in found.splitlines()[2:]] == ["mordal", "grid"]
    assert [line.split()[0] for line in said.splitlines()[2:]] == ["mordal", "grid"]
    asked = CliRunner().invoke(cli.app, [*arguments, "--json"]).stdout
    assert set(json.loads(asked)) == {"mordal", "grid"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--method", "best"], "--method: got 'best'; allowed are"),
        (["--preset", "slow"], "--preset: got 'slow'; allowed are default, faithful"),
        (["--compare", "mordal,best"], "--method: got 'best'"),
        (["--budget", "0"], "--budget: got 0"),
        (["nowhere.json"], "2 grid files were given; --method takes one"),
    ],
)
def test_replay_refuses_in_one_sentence(
    grid_file: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    sentence: str,
) -> None:
    status, shown = call("replay", str(grid_file), *arguments, capsys=capsys)
    assert status == 2
    assert sentence in shown
    assert shown.count("\n") == 1


def test_a_broken_grid_file_exits_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "grid.json"
    path.write_text("[]", encoding="utf-8")
    status, shown = call("replay", str(path), capsys=capsys)
    assert status == 2
    assert "grid.json" in shown


def test_an_outage_is_one_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outside of trials nothing waits it out; the text of a database's error is not shown."""

    def out(*_: object, **__: object) -> None:
        raise StorageInternalError("postgresql://me:secret@host")

    monkeypatch.setattr(cli, "_run_to_end", out)
    status, shown = call("quickstart", capsys=capsys)
    assert (status, shown.count("\n")) == (1, 1)
    assert "the study's storage failed (StorageInternalError); the same command goes on" in shown


def test_changed_inputs_exit_with_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(*_: object, **__: object) -> None:
        raise InputsChangedError("s", [Change("llm:qwen2-s", "chat template")])

    monkeypatch.setattr(cli, "_run_to_end", changed)
    status, shown = call("quickstart", capsys=capsys)
    assert (status, shown.count("\n")) == (2, 1)
    assert "changed: the chat template of qwen2-s; put it back" in shown


@pytest.mark.parametrize("command", ["run", "export", "retry"])
def test_a_file_can_be_run_under_another_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """Every command that opens the study finds it; a name is held to a study's rules."""
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
    """The methods that the quick start was run with; runs are synthetic."""
    methods: list[str | None] = []
    plans = {None: plan(), "grid": grid_plan(tree(), (*RUNGS, FULL))}

    def run(study_file: Path, method: str | None, *_: object, **__: object) -> StudyResult:
        assert study_file.name == "quickstart.yaml"
        methods.append(method)
        done = search(plans[method], table())
        return read_result(done, plans[method], method=method or "mordal", task="gqa")

    monkeypatch.setattr(cli, "_run_to_end", run)
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


def test_a_process_that_does_not_lead_prints_no_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "_run_to_end", lambda *_, **__: None)
    shown = CliRunner().invoke(cli.app, ["quickstart", "--check"])
    assert (shown.exit_code, shown.stdout) == (0, "")


def test_an_interruption_says_how_to_go_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
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
