"""`on_finish`: a real command, run once, that changes neither the result nor the exit status."""

from __future__ import annotations

import json
import shlex
import sys
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from mordal_optuna.cli import app as cli
from mordal_optuna.cli.finishing import run_on_finish, telling_failure
from mordal_optuna.config import read_study
from mordal_optuna.driver import load_study, open_study
from mordal_optuna.errors import FailedSearchError, TrainingError
from tests.cli.calls import study_file
from tests.stored import file_named, run_for

if TYPE_CHECKING:
    from pathlib import Path

    from mordal_optuna.config import StudySettings

# Appends what it was told to a file.
PROGRAM = """
import json, os, sys
told = {k: v for k, v in os.environ.items() if k.startswith("MORDAL_")}
print("shown"); open(sys.argv[1], "a").write(json.dumps(told) + "\\n"); sys.exit(int(sys.argv[2]))
"""


def with_command(folder: Path, status: int = 0) -> tuple[StudySettings, Path]:
    """Settings whose command ends with a status, and the file that it writes."""
    program, told = folder / "tell me.py", folder / "told"
    program.write_text(PROGRAM)
    command = json.dumps([sys.executable, str(program), str(told), str(status)])
    file = file_named(folder, more=f"on_finish: {command}\n")
    settings = read_study(file)
    settings.workdir.mkdir(exist_ok=True)
    return settings, told


def lines(told: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in told.read_text().splitlines()] if told.exists() else []


def test_the_command_is_told_of_the_failure_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """By however many workers; what it prints goes to standard error; the error goes on."""
    settings, told = with_command(tmp_path)
    for _ in range(2):
        with pytest.raises(FailedSearchError), telling_failure(settings):
            raise FailedSearchError("no candidate could be trained", "the loss is nan")
    (found,) = lines(told)
    assert found["MORDAL_STUDY"] == "s"
    assert found["MORDAL_STATUS"] == "failed"
    assert found["MORDAL_REASON"].startswith("no candidate could be trained (the loss is nan)")
    assert (found["MORDAL_WINNER"], found["MORDAL_REPORT"]) == ("", "")
    assert found["MORDAL_WORKDIR"] == str(settings.workdir)
    assert capfd.readouterr() == ("", "shown\n")


@pytest.mark.parametrize("error", [TrainingError(8, "nan"), KeyboardInterrupt()])
def test_other_errors_run_no_command(tmp_path: Path, error: BaseException) -> None:
    """Ctrl-C among them: the same command line continues."""
    settings, told = with_command(tmp_path)
    with pytest.raises(type(error)), telling_failure(settings):
        raise error
    assert lines(told) == []


def test_a_command_that_fails_is_one_sentence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings, told = with_command(tmp_path, status=3)
    run_on_finish(settings, "ended", "race won")
    assert len(lines(told)) == 1
    shown, sentence = capfd.readouterr().err.splitlines()
    assert shown == "shown"
    assert sentence.startswith("mordal: on_finish: [")
    assert sentence.endswith("ended with exit status 3; the study's result is not affected")
    missing = settings.model_copy(update={"on_finish": (str(tmp_path / "nowhere"), "x")})
    run_on_finish(missing, "ended", "another end")
    (sentence,) = capfd.readouterr().err.splitlines()
    assert "cannot be started (No such file or directory)" in sentence


def test_only_a_string_is_read_by_a_shell(tmp_path: Path) -> None:
    settings, told = with_command(tmp_path)
    listed = settings.model_copy(update={"on_finish": ("touch", f"{told}; $A")})
    run_on_finish(listed, "ended", "one")
    assert (tmp_path / "told; $A").is_file()
    text = f'echo "$MORDAL_STUDY $MORDAL_STATUS" > {shlex.quote(str(told))}'
    run_on_finish(settings.model_copy(update={"on_finish": text}), "ended", "two")
    assert told.read_text() == "s ended\n"


def test_a_study_without_a_command_writes_nothing(tmp_path: Path) -> None:
    settings = read_study(study_file(tmp_path))
    run_on_finish(settings, "ended", "race won")
    assert not settings.workdir.exists()


@pytest.mark.slow
def test_mordal_run_tells_of_the_end_once(tmp_path: Path) -> None:
    """With the report that is there; a second call prints the result and tells nobody."""
    settings, told = with_command(tmp_path, status=1)
    run_for(tmp_path / "study.yaml")
    for _ in range(2):
        done = CliRunner().invoke(cli.app, ["run", str(tmp_path / "study.yaml"), "--json"])
        assert done.exit_code == 0, done.output
        winner = json.loads(done.stdout)["winner"]
    (found,) = lines(told)
    result = load_study(settings)
    assert found["MORDAL_STATUS"] == "ended"
    assert found["MORDAL_REASON"] == result.stopped_because
    assert found["MORDAL_WINNER"] == f"{winner['vision_encoder']} + {winner['llm']}"
    assert float(found["MORDAL_SCORE"]) == pytest.approx(result.measured.score, abs=1e-6)
    assert float(found["MORDAL_DEVICE_SECONDS"]) == pytest.approx(result.costs.total, abs=0.1)
    report = settings.workdir / "s.html"
    assert found["MORDAL_REPORT"] == str(report)
    assert report.is_file()
    assert open_study(settings).user_attrs["mordal:finished"][0] == "ended"
