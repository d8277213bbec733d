"""`Silent` accepts all progress updates and prints nothing."""

from __future__ import annotations

from mordal_optuna.progress import Silent


def test_silent_prints_nothing(capsys) -> None:  # noqa: ANN001
    progress = Silent()
    progress.stage("s")
    progress.note("n")
    progress.warn("w")
    with progress.track("t", 3) as advance:
        advance(2)
    assert capsys.readouterr().out == ""
