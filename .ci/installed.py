"""Whether the installed package is whole; for a fresh environment's Python.

python -I .ci/installed.py CHECKOUT        # every file of the package is there, byte for byte
python -I .ci/installed.py CHECKOUT --use  # and its data can be read by the package itself
"""

from __future__ import annotations

import sys
from importlib.metadata import distribution
from pathlib import Path

# Folders of the checkout, and where an installation has them.
FOLDERS = {
    "mordal_optuna": "mordal_optuna",
    "tasks": "mordal_optuna/tasks",
    "studies": "mordal_optuna/studies",
}


def differing(checkout: Path, site: Path) -> list[str]:
    """Files of the package that the installation lacks or has otherwise."""
    found = []
    for folder, place in FOLDERS.items():
        for path in sorted((checkout / folder).rglob("*")):
            if path.is_dir() or "__pycache__" in path.parts:
                continue
            installed = site / place / path.relative_to(checkout / folder)
            if not installed.is_file() or installed.read_bytes() != path.read_bytes():
                found.append(str(path.relative_to(checkout)))
    return found


def use() -> None:
    """Read the shipped studies, tasks and templates as the commands do."""
    import yaml
    from jinja2 import PackageLoader

    from mordal_optuna.config import read_study
    from mordal_optuna.config.shipped import shipped
    from mordal_optuna.evaluation.upstream import UPSTREAM

    files = sorted(shipped("studies").glob("*.yaml"))
    studies = [read_study(path, places=False) for path in files]
    tasks = {
        yaml.load(path.read_text(encoding="utf-8"), yaml.BaseLoader)["task"]
        for path in shipped("tasks").rglob("*.yaml")
    }
    wanted = {task.name for study in studies for task in study.tasks or [study.task]}
    missing = wanted - tasks - UPSTREAM.keys()
    assert not missing, missing
    for folder in ("mordal_optuna.models", "mordal_optuna.reporting"):
        assert PackageLoader(folder).list_templates(), folder
    print(f"{len(studies)} studies and {len(tasks)} tasks can be read")


def main() -> int:
    """Exit status 1 if the installation lacks a file."""
    checkout = Path(sys.argv[1])
    installed = distribution("mordal-optuna")
    site = Path(str(installed.locate_file("")))
    if checkout in site.parents:
        print(f"{site} lies in the checkout; a fresh environment outside it is needed")
        return 1
    missing = differing(checkout, site)
    print(f"mordal-optuna {installed.version} in {site}: {len(missing)} files differ")
    print("".join(f"{name}\n" for name in missing), end="")
    if not missing and "--use" in sys.argv:
        use()
    return bool(missing)


if __name__ == "__main__":
    sys.exit(main())
