"""Calls of `mordal`, and a study file, for the tests of its commands."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from mordal_optuna.cli import app as cli

if TYPE_CHECKING:
    from pathlib import Path


def call(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit status and standard error of `mordal ...`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["mordal", *arguments])
        with pytest.raises(SystemExit) as caught:
            cli.main()
    return int(caught.value.code or 0), capsys.readouterr().err


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
