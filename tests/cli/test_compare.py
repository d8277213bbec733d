"""`mordal compare`: study files, and other studies in the database of a file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from mordal_optuna.cli import app as cli
from tests.cli.calls import call
from tests.stored import file_named, run_for

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow  # each study is read from its database


def two(folder: Path) -> tuple[Path, Path]:
    """Two study files with a finished and a stopped study of one task."""
    files = file_named(folder / "one", "one"), file_named(folder / "two", "two")
    for file, trials in zip(files, (None, 3), strict=True):
        run_for(file, trials)
    return files


def test_cost_pick_ranks_regret_and_agreement_are_shown(tmp_path: Path) -> None:
    """At most 100 columns wide; the JSON has the same."""
    files = [str(file) for file in two(tmp_path)]
    done = CliRunner().invoke(cli.app, ["compare", *files])
    assert done.exit_code == 0, done.output
    text = " ".join(done.stdout.split())
    assert "2 studies of t" in text
    for part in ("one picked clip + llama: by two", "two picked", "Kendall's tau", "not finished"):
        assert part in text
    found = json.loads(CliRunner().invoke(cli.app, ["compare", *files, "--json"]).stdout)
    assert set(found) == {"task", "studies", "picks", "agreement", "notes"}
    one, two_ = found["studies"]
    assert (one["study"], one["finished"], two_["finished"]) == ("one", True, False)
    assert one["device_seconds"] > two_["device_seconds"] > 0
    assert {(view["by"], view["of"]) for view in found["picks"]} == {
        ("one", "two"),
        ("two", "one"),
    }
    assert found["agreement"][0]["pairs"] == 4


def test_a_study_of_another_method_is_named_behind_its_file(tmp_path: Path) -> None:
    """As `mordal run --method grid` stores it; its file has the method of the search."""
    file = file_named(tmp_path)
    run_for(file)
    assert run_for(file, method="grid").study == "s-grid"
    done = CliRunner().invoke(cli.app, ["compare", str(file), f"{file}@s-grid", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert [one["method"] for one in found["studies"]] == ["mordal", "grid"]
    assert found["picks"][0]["rank"] == 1


def test_what_cannot_be_compared_is_refused_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = two(tmp_path)
    shown = call("compare", str(first), str(first), capsys=capsys)
    assert (shown[0], shown[1].count("\n")) == (2, 1)
    assert "it takes two or more different ones" in shown[1]
    shown = call("compare", str(first), f"{second}@nobody", capsys=capsys)
    assert (shown[0], shown[1].count("\n")) == (1, 1)
    assert "study 'nobody' has no score yet (state: not begun)" in shown[1]
    other = file_named(tmp_path / "three", "s")
    other.write_text(other.read_text().replace("{name: t}", "{name: ai2d}"))
    run_for(other, 3)
    shown = call("compare", str(first), str(other), capsys=capsys)
    assert shown == (
        2,
        "mordal: compare: study 'one' is on t and study 's' on ai2d; only studies of one task, "
        "with the same weights, can be compared\n",
    )
