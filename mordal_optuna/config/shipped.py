"""Folders of the task and study files that come with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from mordal_optuna.errors import ConfigError


def shipped(kind: Literal["tasks", "studies"]) -> Path:
    """Folder of the shipped task YAMLs or study files.

    A wheel contains the folder inside the package; in a checkout it lies beside the package.

    Args:
        kind: which folder.

    Raises:
        ConfigError: if the installation lacks the folder.
    """
    package = Path(__file__).parents[1]
    for folder in (package / kind, package.parent / kind):
        if folder.is_dir():
            return folder
    raise ConfigError(
        [f"{kind}: not found in {str(package)!r} or beside it; reinstall the package"]
    )


def in_checkout() -> bool:
    """Whether the package runs from a checkout, where `uv run` sets up its environment."""
    return (Path(__file__).parents[2] / "pyproject.toml").is_file()


def shipped_study(name: str) -> Path:
    """A shipped study file.

    Args:
        name: its name without `.yaml`.

    Raises:
        ConfigError: if there is none of this name.
    """
    files = {path.stem: path for path in shipped("studies").glob("*.yaml")}
    if name not in files:
        raise ConfigError(
            [f"study {name!r} is not shipped; shipped are {', '.join(sorted(files))}"]
        )
    return files[name]
