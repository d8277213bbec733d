"""What the README shows is what runs, and what the committed results say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from benchmarks import readme
from mordal_optuna.cli import app as cli
from mordal_optuna.config import parse_study
from tests.search.synthetic import table

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str, text: str = TEXT) -> list[str]:
    """Blocks of code in a language; in none if it is empty."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def test_it_is_short() -> None:
    lines = TEXT.splitlines()
    assert len(lines) <= 120
    assert max(map(len, lines)) <= 100


def test_its_commands_are_those_that_are_run() -> None:
    """The quick start, and the tests as `.ci/run` runs them."""
    first, second = blocks("")[0].splitlines()
    assert first.startswith("pip install uv && uv run mordal quickstart ")
    tests = second.partition("#")[0].strip()
    assert tests == "uv run --extra test pytest"
    assert tests in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_its_output_is_cut_from_the_page_of_the_quick_start() -> None:
    """To ten lines at most."""
    page = (ROOT / "docs" / "quick-start.md").read_text(encoding="utf-8").splitlines()
    shown = blocks("")[1].splitlines()
    assert len(shown) <= 10
    assert all(line in page for line in shown)


def test_its_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#\s]+)", TEXT)
    local = [link for link in links if not link.startswith("https://")]
    assert len(local) > 10
    assert all((ROOT / link).exists() for link in local), local


def test_the_plain_optuna_example_runs_and_stops_by_itself() -> None:
    """Fifteen lines, with a `train_and_score` that looks scores up; the page has the same ones."""
    (code,) = blocks("python")
    page = (ROOT / "docs" / "plain-optuna.md").read_text(encoding="utf-8")
    assert blocks("python", page) == [code]
    assert len([line for line in code.splitlines() if line.strip()]) <= 15
    assert code.count("from mordal_optuna import") == code.count("mordal_optuna") == 1
    measure, asked = table(), []

    def train_and_score(encoder: str, llm: str, samples: int) -> float:
        asked.append(samples)
        level = {"clip": 0.22, "siglip": 0.20}[encoder] * {"llama": 1.1, "qwen": 1.0}[llm]
        return 1 - level * (samples / 16384) ** measure.slope

    names: dict[str, object] = {"train_and_score": train_and_score}
    exec(compile(code, "README.md", "exec"), names)  # noqa: S102
    study = names["study"]
    assert study.best_params == {"vision_encoder": "siglip", "llm": "qwen"}  # type: ignore[attr-defined]
    assert "mordal:stopped_because" in study.user_attrs  # type: ignore[attr-defined]
    assert max(asked) == 16384


@pytest.mark.slow
def test_the_study_costs_what_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten lines; `mordal plan` gives the hours, from published sizes alone."""
    (study,) = blocks("yaml")
    assert len(study.splitlines()) == 10
    parse_study(yaml.safe_load(study), places=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    Path("my-study.yaml").write_text(study, encoding="utf-8")
    command = re.search(r"`mordal (plan my-study\.yaml --device h100)`", TEXT)
    assert command
    done = CliRunner().invoke(cli.app, [*command[1].split(), "--json"])
    assert done.exit_code == 0, done.output
    forecast = json.loads(done.stdout)["forecast"]
    said = " ".join(TEXT.split())
    total, low, high, grid = (
        seconds / 3600
        for seconds in (
            *(forecast["seconds"]["total"], forecast["low"], forecast["high"]),
            forecast["grid"],
        )
    )
    assert f"about {total:.0f} hours of one H100 ({low:.1f} to {high:.1f})" in said
    assert forecast["pairs"] == 6
    assert f"all six pairs {grid:.0f} hours" in said


def test_the_table_and_the_figure_are_those_of_the_committed_results() -> None:
    """`python -m benchmarks.readme` writes both; the figure may differ by rounding."""
    results = json.loads(readme.RESULTS.read_text(encoding="utf-8"))
    assert readme.filled(TEXT, readme.RESULTS, readme.numbers(results)) == TEXT
    assert "docs/figures/ranking.svg" in TEXT
