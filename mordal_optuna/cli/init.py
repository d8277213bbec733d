"""`mordal init` and `mordal studies`: write a study file, and show those that are shipped."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mordal_optuna.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

_DEFAULT = Path("study.yaml")
_FORCE = "Overwrite an existing file."
Model = Annotated[
    list[str] | None,
    typer.Option(metavar="[NAME=]LOCATION", help="A folder or hub id; repeat it for several."),
]


def init(
    path: Annotated[Path, typer.Argument(help="The file to write.")] = _DEFAULT,
    *,
    encoder: Model = None,
    llm: Model = None,
    data: Annotated[
        str | None,
        typer.Option(help="LLaVA's conversation JSON (with --images), or a `datasets` dataset."),
    ] = None,
    images: Annotated[str | None, typer.Option(help="Folder of the images.")] = None,
    samples: Annotated[int | None, typer.Option(help="Samples of a full alignment.")] = None,
    task: Annotated[
        list[str] | None, typer.Option(help="Task of lmms-eval; repeat it for several.")
    ] = None,
    task_folder: Annotated[
        list[str] | None, typer.Option(help="Folder with lmms-eval task YAMLs of your own.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the study.")] = None,
    workdir: Annotated[str | None, typer.Option(help="Folder of results.")] = None,
    storage: Annotated[str | None, typer.Option(help="SQLAlchemy address of a database.")] = None,
    method: Annotated[str | None, typer.Option(help="Search method.")] = None,
    device_hours: Annotated[float | None, typer.Option(help="Budget in device-hours.")] = None,
    force: Annotated[bool, typer.Option("--force", help=_FORCE)] = False,
) -> None:
    """Write a commented study file from options; asks for what is missing in a terminal."""
    from mordal_optuna.config import parse_study
    from mordal_optuna.config.writing import study_text

    _check_free(path, force=force)
    asks = sys.stdin.isatty() and sys.stdout.isatty()
    encoder = _all(encoder, "--encoder", "Vision encoders (folders or hub ids)", asks=asks)
    llm = _all(llm, "--llm", "LLMs (folders or hub ids)", asks=asks)
    data = _one(data, "--data", "Alignment data (JSON or dataset)", asks=asks)
    if data.endswith(".json"):
        images = _one(images, "--images", "Folder of the images", asks=asks)
    task = _all(task, "--task", "Tasks of lmms-eval", asks=asks)
    chosen = name or re.sub(r"[^\w.-]+", "-", path.stem).strip("-.") or "study"
    search = {"method": method, "device_hours": device_hours}
    content: dict[str, Any] = {
        "study": chosen,
        "workdir": workdir or f"runs/{chosen}",
        "storage": storage,
        "pool": {"vision_encoders": named(encoder), "llms": named(llm)},
        "alignment": {**_data(data, images), "samples": samples},
        "task": {"name": task[0]} if len(task) == 1 else None,
        "tasks": [{"name": one} for one in task] if len(task) > 1 else None,
        "task_folders": task_folder,
        "search": {k: v for k, v in search.items() if v is not None} or None,
    }
    content = {key: _given(value) for key, value in content.items() if value is not None}
    parse_study(content, places=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(study_text(content), encoding="utf-8")
    typer.echo(f"wrote {path}; `mordal plan {path}` shows what it takes")


def studies(
    name: Annotated[str | None, typer.Argument(help="A shipped study.")] = None,
    *,
    copy: Annotated[
        bool, typer.Option("--copy", help="Copy it to NAME.yaml in the current directory.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help=_FORCE)] = False,
) -> None:
    """List the study files that come with the package; with a name, print one."""
    from mordal_optuna.config.shipped import shipped, shipped_study

    if name is None:
        if copy:
            raise ConfigError(["--copy: given without the name of a study"])
        files = sorted(shipped("studies").glob("*.yaml"))
        width = max(len(file.stem) for file in files)
        for file in files:
            typer.echo(f"{file.stem:{width}}  {_about(file)}")
        return
    file = shipped_study(name)
    if not copy:
        typer.echo(file.read_text(encoding="utf-8"), nl=False)
        return
    target = Path(f"{name}.yaml")
    _check_free(target, force=force)
    target.write_text(file.read_text(encoding="utf-8"), encoding="utf-8")
    typer.echo(f"wrote {target}; `mordal plan {target}` shows what it takes")


def named(models: Sequence[str]) -> list[dict[str, str]]:
    """Models with the names that were given, or with the last part of their locations.

    Args:
        models: models as `NAME=LOCATION` or `LOCATION`.
    """
    found: dict[str, str] = {}
    for model in models:
        given, there, location = model.partition("=")
        location = location if there else model
        base = given if there else re.sub(r"[^\w.-]+", "-", location.rstrip("/").split("/")[-1])
        base = (base if there else base.lower()).strip("-._") or "model"
        name, number = base, 2
        while name in found and not there:
            name, number = f"{base}-{number}", number + 1
        if name in found:
            raise ConfigError([f"--encoder or --llm: the name {name!r} was given twice"])
        found[name] = location
    return [{"name": name, "location": location} for name, location in found.items()]


def _about(file: Path) -> str:
    """The first comment of a study file."""
    line = file.read_text(encoding="utf-8").splitlines()[0]
    return line.removeprefix("#").strip()


def _check_free(path: Path, *, force: bool) -> None:
    if path.exists() and not (force and path.is_file()):
        raise ConfigError([f"{str(path)!r} exists; `--force` overwrites a file"])


def _data(data: str, images: str | None) -> dict[str, Any]:
    if images is not None:
        return {"conversations": data, "images": images}
    return {"dataset": {"path": data}}


def _given(value: Any) -> Any:
    """A value without options that were not given."""
    if isinstance(value, dict):
        return {key: _given(one) for key, one in value.items() if one is not None}
    return value


def _one(value: str | None, option: str, question: str, *, asks: bool) -> str:
    if value:
        return value
    if not asks:
        raise ConfigError([f"{option}: missing; without a terminal it must be given"])
    answer: str = typer.prompt(question)
    return answer.strip()


def _all(values: list[str] | None, option: str, question: str, *, asks: bool) -> list[str]:
    if values:
        return values
    return _one(None, option, f"{question}, separated by spaces", asks=asks).split()
