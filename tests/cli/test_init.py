"""`mordal init` writes a file that the schema reads; `mordal studies` shows the shipped ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from mordal_optuna.cli import app as cli
from mordal_optuna.cli import init as module
from mordal_optuna.config import read_study
from mordal_optuna.config.shipped import shipped, shipped_study
from mordal_optuna.errors import ConfigError
from tests.cli.calls import call

MODELS = ("--encoder", "openai/clip-vit-large-patch14-336", "--encoder", "d=facebook/dinov2-large")
REST = ("--llm", "Qwen/Qwen2-7B-Instruct", "--data", "a.json", "--images", "i", "--task", "ai2d")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an empty folder."""
    monkeypatch.chdir(tmp_path)


def test_what_is_written_is_what_was_given() -> None:
    done = CliRunner().invoke(
        cli.app,
        ["init", "mine.yaml", *MODELS, *REST, "--workdir", "w", "--storage", "sqlite:///x.db"]
        + ["--samples", "1024", "--method", "joint", "--device-hours", "12"],
    )
    assert done.exit_code == 0, done.output
    settings = read_study(Path("mine.yaml"), places=False)
    assert (settings.study, str(settings.workdir)) == ("mine", "w")
    pool = settings.models()
    assert pool.encoder_names == ("clip-vit-large-patch14-336", "d")
    assert pool.vision_encoders[1].location == "facebook/dinov2-large"
    assert settings.alignment.samples == 1024
    assert (settings.search.method, settings.search.device_hours) == ("joint", 12)
    assert settings.storage == "sqlite:///x.db"


def test_several_tasks_and_a_dataset() -> None:
    options = ("--llm", "m/m", "--data", "owner/data", "--task", "gqa", "--task", "ai2d")
    done = CliRunner().invoke(cli.app, ["init", *MODELS, *options])
    assert done.exit_code == 0, done.output
    settings = read_study(Path("study.yaml"), places=False)
    assert [task.name for task in settings.tasks] == ["gqa", "ai2d"]
    assert settings.alignment.dataset
    assert settings.alignment.dataset.path == "owner/data"


def test_a_file_is_kept_unless_forced(capsys: pytest.CaptureFixture[str]) -> None:
    Path("study.yaml").write_text("kept")
    status, shown = call("init", *MODELS, *REST, capsys=capsys)
    assert (status, Path("study.yaml").read_text()) == (2, "kept")
    assert "'study.yaml' exists; `--force` overwrites a file" in shown
    assert CliRunner().invoke(cli.app, ["init", *MODELS, *REST, "--force"]).exit_code == 0
    assert read_study(Path("study.yaml"), places=False).study == "study"


def test_what_is_missing_is_named_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    status, shown = call("init", *MODELS, capsys=capsys)
    assert (status, shown) == (2, "mordal: --llm: missing; without a terminal it must be given\n")
    status, shown = call("init", *MODELS, *REST, "--method", "best", capsys=capsys)
    assert status == 2
    assert "search.method: got 'best'" in shown
    assert not Path("study.yaml").exists()


def test_a_terminal_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["a/clip b/dino", "c/qwen", "d/data", "gqa"])
    monkeypatch.setattr(module.sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(module.sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(module.typer, "prompt", lambda _: next(answers))
    module.init(Path("asked.yaml"))
    settings = read_study(Path("asked.yaml"), places=False)
    assert settings.models().encoder_names == ("clip", "dino")
    assert next(answers, None) is None


def test_names_are_made_from_locations() -> None:
    found = module.named(["runs/Model One/", "x/model-one", "n=y/z"])
    assert [m["name"] for m in found] == ["model-one", "model-one-2", "n"]
    with pytest.raises(ConfigError, match="given twice"):
        module.named(["n=a", "n=b"])


def test_shipped_studies_are_listed_printed_and_copied(
    capsys: pytest.CaptureFixture[str],
) -> None:
    listed = CliRunner().invoke(cli.app, ["studies"]).output
    names = [path.stem for path in shipped("studies").glob("*.yaml")]
    assert {line.split()[0] for line in listed.splitlines()} == set(names)
    assert all(line.endswith(".") for line in listed.splitlines())  # whole sentences
    printed = CliRunner().invoke(cli.app, ["studies", "medical"]).output
    assert printed == shipped_study("medical").read_text()
    assert CliRunner().invoke(cli.app, ["studies", "medical", "--copy"]).exit_code == 0
    assert Path("medical.yaml").read_text() == printed
    status, shown = call("studies", "medical", "--copy", capsys=capsys)
    assert (status, "`--force`" in shown) == (2, True)
    status, shown = call("studies", "other", capsys=capsys)
    assert status == 2
    assert "study 'other' is not shipped; shipped are card-24gb" in shown
