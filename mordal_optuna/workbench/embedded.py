"""The embedded pool of a study file with a `zoo` section; loads torch only to build it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from mordal_optuna.errors import ConfigError

if TYPE_CHECKING:
    from mordal_optuna.config import StudySettings
    from mordal_optuna.progress import Progress


def build_zoo(settings: StudySettings, progress: Progress) -> None:
    """Build the embedded pool that a study file asks for, unless it is there.

    Args:
        settings: the study file's settings, with a `zoo` section.
        progress: receives progress updates.

    Raises:
        ConfigError: if the study file names models that the pool does not have.
    """
    from mordal_optuna.zoo.build import build, missing
    from mordal_optuna.zoo.quickstart import recipe_named

    assert settings.zoo is not None
    chosen = recipe_named(settings.zoo.recipe)
    made = [Path(part.path) for part in chosen.parts()]
    _check_zoo_models(
        settings,
        {path.name for path in made if path.parent.name == "encoders"},
        {path.name for path in made if path.parent.name == "llms"},
    )
    folder = settings.zoo.folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):  # one worker of this machine
        if missing(chosen, folder):
            progress.stage("building the embedded pool: tiny models pretrained on this machine")
            build(chosen, folder, progress, workers=settings.zoo.workers)


def _check_zoo_models(settings: StudySettings, encoders: set[str], llms: set[str]) -> None:
    assert settings.zoo is not None
    problems = []
    for kind, names, folder in (
        ("vision_encoders", encoders, settings.zoo.folder / "encoders"),
        ("llms", llms, settings.zoo.folder / "llms"),
    ):
        for model in getattr(settings.pool, kind):
            place = Path(model.location)
            if settings.zoo.folder in place.parents and (
                place.parent != folder or place.name not in names
            ):
                problems.append(
                    f"pool.{kind}.{model.name}.location: {model.location!r} is not made by the "
                    f"zoo recipe {settings.zoo.recipe!r}; it makes "
                    + ", ".join(repr(str(folder / name)) for name in sorted(names))
                )
    if problems:
        raise ConfigError(problems)
