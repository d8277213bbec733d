"""What several commands share."""

from __future__ import annotations

from pathlib import Path

import pytest

from mordal_optuna.cli.shared import dashboard_command
from mordal_optuna.config import shipped


@pytest.mark.parametrize("checkout", [True, False])
def test_the_dashboards_command_is_one_that_works_here(
    checkout: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`uv run` installs the extra in a checkout; an installed package has no project to run."""
    package = tmp_path / "mordal_optuna"
    if checkout:
        (tmp_path / "pyproject.toml").touch()
    monkeypatch.setattr(shipped, "__file__", str(package / "config" / "shipped.py"))
    command = dashboard_command(Path("my study.yaml"), "joint", None)
    launcher = "uv run --extra dashboard mordal" if checkout else "mordal"
    assert command == f"{launcher} dashboard 'my study.yaml' --method joint"
