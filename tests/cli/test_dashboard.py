"""`mordal dashboard`: what it prints and serves, and what it refuses in one sentence."""

from __future__ import annotations

import signal
import subprocess
import sys
import urllib.request
from functools import partial
from typing import TYPE_CHECKING

import optuna
import pytest
from optuna.artifacts import get_all_artifact_meta
from optuna_dashboard import get_note

from mordal_optuna.config import read_study
from mordal_optuna.driver import open_study, study_plan
from mordal_optuna.search.attributes import FULL_SAMPLES, STOPPED_BECAUSE
from tests.cli.calls import call, study_file
from tests.search.synthetic import search, table

if TYPE_CHECKING:
    from pathlib import Path


def served(file: Path) -> tuple[str, str]:
    """The address that the command prints, and the page there; Ctrl-C ends it without an error."""
    command = [sys.executable, "-m", "mordal_optuna", "dashboard", str(file), "--port", "0"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        # A shell's background job ignores Ctrl-C, and so would what it starts.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    ) as process:
        try:
            assert process.stdout
            address = process.stdout.readline().strip()
            with urllib.request.urlopen(address, timeout=30) as answer:
                page = answer.read().decode()
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0
        finally:
            process.kill()
    return address, page


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_it_serves_the_studys_page_and_publishes_what_there_is(tmp_path: Path) -> None:
    """On this machine alone; before the first score there is nothing to publish."""
    file = study_file(tmp_path)
    (tmp_path / "run").mkdir()
    settings = read_study(file)
    study = open_study(settings)
    address, page = served(file)
    assert address.startswith("http://127.0.0.1:")
    assert address.endswith("/dashboard/studies/1")
    assert "Optuna Dashboard" in page
    assert get_note(study) == ""
    study.set_user_attr(FULL_SAMPLES, 8192)
    chosen = study_plan(settings, 8192, None)
    storage = settings.storage_url()
    optuna.create_study(study_name="synthetic", storage=storage)  # the second study
    searched = search(chosen, table(), storage)
    study.add_trials(searched.trials)
    study.set_user_attr(STOPPED_BECAUSE, "race won")
    served(file)
    assert "Ended: race won." in get_note(study)
    assert [meta.filename for meta in get_all_artifact_meta(study)] == ["s.html"]
    assert (tmp_path / "run" / "artifacts").is_dir()


def test_a_missing_study_is_not_created(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = study_file(tmp_path)
    (tmp_path / "run").mkdir()
    shown = call("dashboard", str(file), capsys=capsys)
    assert shown == (1, "mordal: study 's' has no score yet; run it first\n")
    storage = read_study(file).storage_url()
    assert optuna.get_all_study_names(storage) == []


def test_without_the_extra_it_says_what_to_install(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mordal_optuna.reporting.dashboard.find_spec", lambda _: None)
    status, shown = call("dashboard", str(study_file(tmp_path)), capsys=capsys)
    assert (status, shown.count("\n")) == (2, 1)
    assert "optuna-dashboard is not installed; install the extra `dashboard`" in shown
