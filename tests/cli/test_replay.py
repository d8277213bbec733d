"""`mordal replay`: tables for people, one JSON object for programs, one sentence for a mistake."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from mordal_optuna.cli import app as cli
from mordal_optuna.replay.synthetic import synthetic_grid
from tests.cli.calls import call
from tests.replay.grids import without_costs

if TYPE_CHECKING:
    from pathlib import Path


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
    said, explained = said.split("columns")
    assert [line.split()[0] for line in said.splitlines()[2:]] == ["mordal", "grid"]
    assert "in percentage points" in explained
    asked = CliRunner().invoke(cli.app, [*arguments, "--json"]).stdout
    assert set(json.loads(asked)) == {"mordal", "grid"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--method", "best"], "--method: got 'best'; allowed are"),
        (["--preset", "slow"], "--preset: got 'slow'; allowed are default, faithful"),
        (["--compare", "mordal,best"], "--method: got 'best'"),
        (["--budget", "0"], "--budget: got 0"),
        (["--budget", "nan"], "--budget: got nan"),
        (["nowhere.json"], "nowhere.json' does not exist"),
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


def test_one_method_takes_one_grid(grid_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The sentence says how several are compared."""
    status, shown = call("replay", str(grid_file), str(grid_file), capsys=capsys)
    assert status == 2
    assert "2 grid files were given; --method takes one, `--compare mordal` several" in shown


def test_other_files_are_skipped_by_name(grid_file: Path) -> None:
    other = grid_file.with_name("seeds.json")
    other.write_text("{}", encoding="utf-8")
    arguments = ["replay", str(other), str(grid_file), "--compare", "grid", "--seeds", "1"]
    shown = CliRunner().invoke(cli.app, arguments)
    assert shown.exit_code == 0
    assert shown.stderr.startswith("skipped: ")
    assert "seeds.json' is no grid file" in shown.stderr
    assert "1 grid file(s)" in shown.stdout


def test_several_workers_have_an_elapsed_time(grid_file: Path) -> None:
    """Beside the cost, of one search and of a comparison."""
    one, both = (
        CliRunner().invoke(cli.app, ["replay", str(grid_file), "--workers", number]).stdout
        for number in ("1", "2")
    )
    assert "elapsed" not in one
    assert "s of simulated time with 2 workers" in both
    arguments = ["replay", str(grid_file), "--workers", "2", "--compare", "mordal", "--seeds", "1"]
    assert "elapsed, s" in CliRunner().invoke(cli.app, arguments).stdout


def test_a_broken_grid_file_exits_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "grid.json"
    path.write_text("[]", encoding="utf-8")
    status, shown = call("replay", str(path), capsys=capsys)
    assert status == 2
    assert "grid.json" in shown


def test_costs_that_the_file_does_not_list_are_said_to_be_unknown(tmp_path: Path) -> None:
    path = tmp_path / "free.json"
    grid = without_costs(synthetic_grid(0, encoders=3, llms=3))
    path.write_text(grid.model_dump_json(), encoding="utf-8")
    shown = CliRunner().invoke(cli.app, ["replay", str(path)]).stdout
    assert "cost     not known: all seconds of the grid file are 0" in shown
