"""Shipped files are found from a checkout; a wheel carries them too."""

from __future__ import annotations

from mordal_optuna.resources import shipped


def test_tasks_and_studies_are_found() -> None:
    assert (shipped("studies") / "quickstart.yaml").is_file()
    assert list(shipped("tasks").rglob("*.yaml"))
