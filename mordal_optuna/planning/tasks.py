"""What each task takes, without building it; loads neither torch nor lmms-eval.

Documents of local Parquet data are counted by their footers. Of lmms-eval's own tasks the numbers
of the public data sets are known. A task whose documents are not known counts as one of 2,000.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from mordal_optuna.config.shipped import shipped
from mordal_optuna.evaluation.yamls import upstream_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mordal_optuna.config import StudySettings, TaskSettings

# Documents of the scored split, and most tokens of an answer, of lmms-eval's tasks that need no
# YAML. Source: lmms-eval 0.7.3's YAMLs and the cards of the data sets. VizWiz has no limit of its
# own.
KNOWN = {
    "gqa": (12_578, 16),
    "vizwiz_vqa_val": (4_319, None),
    "chartqa": (2_500, 16),
    "docvqa_val": (5_349, 32),
    "scienceqa_img": (2_017, 16),
    "ai2d": (3_088, 16),
    "mmmu_val": (900, 128),
    "slake_en": (1_061, 32),
}
ASSUMED_DOCUMENTS = 2_000


@dataclass(frozen=True)
class TaskFacts:
    """What is known of a task.

    Attributes:
        settings: its section of the study file.
        documents: number of documents that are scored at most.
        known: whether the number is known rather than assumed.
        new_tokens: most tokens of an answer; None if it is not known.
        source: where the number of documents comes from.
        defined: whether a YAML defines the task, or it is one of lmms-eval's that need none.
    """

    settings: TaskSettings
    documents: int
    known: bool
    new_tokens: int | None
    source: str
    defined: bool = True

    def documents_at(self, samples: int, full_samples: int, tasks: int) -> int:
        """Documents that are scored at a rung.

        Args:
            samples: alignment samples of the rung.
            full_samples: D.
            tasks: number of tasks that are scored at each rung.
        """
        return self.settings.documents_at(
            samples, full_samples, documents=self.documents, tasks=tasks
        )


def read_tasks(settings: StudySettings) -> tuple[TaskFacts, ...]:
    """What is known of a study's tasks, in the study file's order.

    Args:
        settings: the study file's settings.
    """
    folders = [*settings.task_folders, shipped("tasks")]
    return tuple(_read(task, folders, settings) for task in settings.scored_tasks)


def _read(task: TaskSettings, folders: Sequence[Path], settings: StudySettings) -> TaskFacts:
    content = next(_contents(folders, task.name), {})
    known, limit = KNOWN.get(task.name, (None, None)) if not content else (None, None)
    limit = (content.get("generation_kwargs") or {}).get("max_new_tokens", limit)
    data = task.data or content.get("dataset_path")
    split = content.get("test_split") or content.get("validation_split")
    counted = parquet_rows(Path(str(data)), split or _split(task.name)) if data else None
    total, source = counted, f"counted in {data}"
    if total is None and settings.zoo and task.data and settings.zoo.folder in task.data.parents:
        total, source = _of_zoo(settings.zoo.recipe, task.data.name), "the embedded pool"
    if total is None:
        total, source = known, "the public data set"
    if total is None and task.documents is None:
        there = bool(content) or task.name in KNOWN
        return TaskFacts(task, ASSUMED_DOCUMENTS, False, limit, "assumed", there)
    if total is None:
        total, source = task.documents or ASSUMED_DOCUMENTS, "the study file"
    return TaskFacts(task, min(total, task.documents or total), True, limit, source)


def parquet_rows(place: Path, split: str | None) -> int | None:
    """Number of rows of the Parquet files of a split; None if there are none.

    Args:
        place: local file or folder, whose README may list the files of each split.
        split: name of the split; None for all files.
    """
    from pyarrow.lib import ArrowInvalid
    from pyarrow.parquet import read_metadata

    if place.is_file():
        files = [place] if place.suffix == ".parquet" else []
    elif place.is_dir():
        files = _listed(place, split) or [
            path for path in sorted(place.rglob("*.parquet")) if not split or split in path.name
        ]
    else:
        return None
    try:
        return sum(int(read_metadata(path).num_rows) for path in files) if files else None
    except (ArrowInvalid, OSError):
        return None


def _listed(folder: Path, split: str | None) -> list[Path]:
    """Files of a split that the first configuration in a folder's README lists."""
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    if not text.startswith("---"):
        return []
    front = yaml.safe_load(text.split("---", 2)[1]) or {}
    entries = [
        entry
        for config in front.get("configs") or ()
        for entry in config.get("data_files") or ()
        if isinstance(entry, dict) and (split is None or entry.get("split") == split)
    ]
    patterns = entries[0]["path"] if entries else []
    names = [patterns] if isinstance(patterns, str) else patterns
    return [path for name in names for path in sorted(folder.glob(name))]


class _Loader(yaml.SafeLoader):
    """Reads `!function` and other tags of lmms-eval as texts."""


def _as_text(_: Any, __: str, node: yaml.Node) -> str:
    return str(node.value)


_Loader.add_multi_constructor("!", _as_text)


def _contents(folders: Sequence[Path], name: str) -> Iterator[dict[str, Any]]:
    """Contents of the YAMLs that define a task, with what they include."""
    for folder in folders:
        for path in sorted(folder.rglob("*.yaml")):
            content = _content(path)
            if content.get("task") == name:
                yield content


def _content(path: Path) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 - safe
    except (yaml.YAMLError, OSError, UnicodeDecodeError):
        return {}  # `run` names it
    if not isinstance(content, dict):
        return {}
    included = content.get("include")
    names = [included] if isinstance(included, str) else included or ()
    for other in names:
        place = path.parent / str(other)
        place = place if place.is_file() else upstream_folder() / str(other)
        content = {**(_content(place) if place.is_file() else {}), **content}
    return content


def _split(name: str) -> str | None:
    """The scored split of a task of lmms-eval; None if it has no such task."""
    if name not in KNOWN:
        return None
    content = next(_contents([upstream_folder() / _FOLDERS.get(name, name)], name), {})
    split = content.get("test_split") or content.get("validation_split")
    return str(split) if split else None


# Folders of lmms-eval's tasks that are not called as the task.
_FOLDERS = {
    "vizwiz_vqa_val": "vizwiz_vqa",
    "docvqa_val": "docvqa",
    "scienceqa_img": "scienceqa",
    "mmmu_val": "mmmu",
    "slake_en": "slake",
}


def _of_zoo(recipe: str, part: str) -> int | None:
    """Documents of a task of an embedded pool that is not built yet."""
    from mordal_optuna.zoo.quickstart import recipe_named

    found = (p for p in recipe_named(recipe).parts() if p.path == f"tasks/{part}")
    return next((int(p.units) for p in found), None)
