"""Places that a study file names: whether models, data and folders are where it says."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mordal_optuna.files.hidden import without_password

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mordal_optuna.config.schema import StudySettings

# "name" or "owner/name", the form of hub ids, or open_clip's "hf-hub:owner/name"; anything else
# must be a folder.
_HUB_ID = re.compile(r"^(hf-hub:)?[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$")
_WANTED = {"file": "an existing file", "folder": "an existing folder", "any": "an existing path"}
# Names beside a misspelt one that are listed at most.
_LISTED = 4


def location_problems(settings: StudySettings) -> list[str]:
    """Problems with places that do not exist, or are of another kind; a sentence each.

    What the study's embedded pool will make counts as existing. Nothing is asked of a hub.

    Args:
        settings: settings of a study file.
    """
    return [
        *_model_problems(settings),
        *_data_problems(settings),
        *_shared_problems(settings),
    ]


def _model_problems(settings: StudySettings) -> Iterator[str]:
    made = settings.zoo.folder if settings.zoo else None
    for kind in ("vision_encoders", "llms"):
        for model in getattr(settings.pool, kind):
            key, given = f"pool.{kind}.{model.name}.location", model.location
            if _kind(Path(given)) == "folder" or _below(Path(given), made):
                continue
            if not _HUB_ID.match(given):
                yield f"{key}: {given!r} is no existing folder and no hub id such as 'owner/name'"
            elif not (model.revision or _is_cached(given)) and (close := _meant(given)):
                yield _misspelt(key, given, close)


def _data_problems(settings: StudySettings) -> Iterator[str]:
    made = settings.zoo.folder if settings.zoo else None
    alignment, file, folder = settings.alignment, "file", "folder"
    places: list[tuple[str, Path | None, str]] = [
        *(
            (f"pool.llms.{m.name}.chat_template", m.template_file, file)
            for m in settings.pool.llms
        ),
        ("alignment.conversations", alignment.conversations, file),
        ("alignment.images", alignment.images, folder),
        *(("task.data", task.data, "any") for task in (settings.task,) if task),
        *((f"tasks.{task.name}.data", task.data, "any") for task in settings.tasks),
        *((f"also_score.{task.name}.data", task.data, "any") for task in settings.also_score),
        *((f"task_folders.{n}", place, folder) for n, place in enumerate(settings.task_folders)),
    ]
    for key, needed, wanted in places:
        if needed is None or _below(needed, made):
            continue
        found = _kind(needed)
        if found is None:
            yield f"{key}: {str(needed)!r} does not exist; it must be {_WANTED[wanted]}"
        elif wanted not in (found, "any"):
            yield f"{key}: {str(needed)!r} is a {found}; it must be {_WANTED[wanted]}"
    if alignment.dataset and _kind(Path(alignment.dataset.path)) is None:
        key, given = "alignment.dataset.path", alignment.dataset.path
        if not _HUB_ID.match(given):
            yield f"{key}: {given!r} is no existing file or folder and no hub id"
        elif not alignment.dataset.revision and (close := _meant(given)):
            yield _misspelt(key, given, close)


def _shared_problems(settings: StudySettings) -> Iterator[str]:
    """Problems with folders or addresses that workers share; they may be made later."""
    for key, place in (
        ("shared", settings.shared),
        ("checkpoints.folder", settings.checkpoints.folder),
    ):
        if place is None:
            continue
        reason = _unknown_protocol(place)
        if reason is None and _kind(Path(place)) == "file":
            reason = "it is a file"
        if reason:
            yield (
                f"{key}: {without_password(place)!r} cannot be used ({reason}); it must be a "
                "folder, or an fsspec address such as s3://bucket/folder"
            )


def _unknown_protocol(place: str) -> str | None:
    """Why an address cannot be opened here; None for a folder, and if fsspec knows it."""
    protocol, separator, _ = place.partition("://")
    if not separator:
        return None
    import fsspec

    try:
        fsspec.get_filesystem_class(protocol.rpartition("::")[2])
    except (ImportError, ValueError) as error:
        return str(error).splitlines()[0]
    return None


def _meant(given: str) -> list[str]:
    """Entries of the folder that a location seems to be in; empty if it seems to be a hub id.

    A location `models/clip` is in a local folder if there is a folder `models` here. A name alone
    is taken for a misspelt one if another here is nearly the same.
    """
    parent = Path(given).parent
    try:
        beside = sorted(str(path) for path in parent.iterdir() if not path.name.startswith("."))
    except OSError:
        return []
    close = difflib.get_close_matches(given, beside, n=_LISTED, cutoff=0.8)
    return close if parent == Path() else close or beside


def _misspelt(key: str, given: str, beside: list[str]) -> str:
    listed = ", ".join(repr(name) for name in beside[:_LISTED])
    more = ", ..." if len(beside) > _LISTED else ""
    return (
        f"{key}: {given!r} does not exist here, but there are {listed}{more}; correct it, or give "
        "`revision: main` as well if a repository on the hub is meant"
    )


def _is_cached(given: str) -> bool:
    """Whether the hub's local cache has a repository, so that it is no misspelt folder."""
    from huggingface_hub import try_to_load_from_cache

    repository = given.removeprefix("hf-hub:")
    names = ("config.json", "open_clip_config.json")
    return any(isinstance(try_to_load_from_cache(repository, name), str) for name in names)


def _kind(place: Path) -> Literal["file", "folder"] | None:
    """What is at a path; None if there is nothing, or it is no path."""
    try:
        return "folder" if place.is_dir() else "file" if place.exists() else None
    except (OSError, ValueError):  # such as a name that is too long
        return None


def _below(place: Path, folder: Path | None) -> bool:
    return folder is not None and folder.absolute() in place.absolute().parents
