"""lmms-eval tasks: found by name, built once, with the metric that counts and a fixed subset."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from pydantic import ValidationError
from tenacity import RetryError

from mordal_optuna.errors import TaskError
from mordal_optuna.evaluation.documents import column_clusters
from mordal_optuna.evaluation.guards import import_lmms_eval, quiet
from mordal_optuna.evaluation.upstream import UPSTREAM, ImagesById, MetricSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

    from mordal_optuna.config import TaskSettings


@dataclass(frozen=True)
class Task:
    """A task that is ready to be scored any number of times.

    Attributes:
        name: lmms-eval's name.
        spec: what counts.
        live: lmms-eval's task object.
        split: the split that is scored.
        documents: original indices of the documents, ascending.
        identity: SHA-256 of all that shapes its scores but the model: what counts, lmms-eval's
            version and code, the documents.
    """

    name: str
    spec: MetricSpec
    live: Any
    split: str
    documents: tuple[int, ...]
    identity: str


def build_task(settings: TaskSettings, folders: Sequence[Path], *, seed: int) -> Task:
    """Find a task and build it.

    A YAML in one of the folders wins over lmms-eval's own task of the same name.

    Args:
        settings: name, local data, number of documents.
        folders: searched, with their subfolders, for YAMLs with `task: <name>`.
        seed: of the subset of documents; a smaller subset lies inside a larger one, and each
            spreads over as many clusters as it can.

    Raises:
        TaskError: if it is not found, found twice, or cannot be built.
    """
    import_lmms_eval()
    path, spec = _find(settings.name, folders)
    own = spec is None
    images = None if own else UPSTREAM[settings.name].images
    live = _build(settings, path, images)
    if spec is None:
        spec = _declared(settings.name, live.config.metadata)
    split = live.config.test_split or live.config.validation_split
    _check_metric(settings.name, spec, live.config)
    documents = _select(live, split, spec, settings, seed)
    identity = _identity(path, spec, live.dataset_no_image[split], documents)
    return Task(settings.name, spec, live, split, documents, identity)


def task_images(task: Task, count: int, *, seed: int) -> list[Image]:
    """The first image of documents of a task, drawn at random once.

    Args:
        task: any task with images.
        count: how many documents; all if there are fewer.
        seed: of the draw.

    Raises:
        TaskError: if a document has no image, or there are fewer than 4 documents.
    """
    docs = task.live.dataset[task.split]
    chosen = np.sort(np.random.default_rng(seed).permutation(len(docs))[:count])
    if len(chosen) < 4:
        raise TaskError(task.name, f"has {len(docs)} documents; comparing models needs 4 images")
    images = []
    for index in chosen.tolist():
        visuals = task.live.doc_to_visual(docs[index])
        if not visuals:
            raise TaskError(
                task.name, f"document {index} has no image; the target task must be visual"
            )
        images.append(visuals[0].convert("RGB"))
    return images


def _find(name: str, folders: Sequence[Path]) -> tuple[Path, MetricSpec | None]:
    found = [path for folder in folders for path in _task_files(folder, name)]
    if len(found) > 1:
        places = " and ".join(repr(str(path)) for path in found[:2])
        raise TaskError(name, f"is defined in {places}; one definition is allowed")
    if found:
        return found[0], None
    if name in UPSTREAM:
        import lmms_eval.tasks

        root = Path(lmms_eval.tasks.__path__[0])
        return root / UPSTREAM[name].yaml, UPSTREAM[name].spec
    searched = ", ".join(repr(str(folder)) for folder in folders) or "no folder"
    raise TaskError(
        name,
        f"is in no YAML below {searched}, nor one of lmms-eval's tasks known here: "
        + ", ".join(sorted(UPSTREAM)),
    )


def _task_files(folder: Path, name: str) -> list[Path]:
    from lmms_eval import utils

    files = []
    for path in sorted(folder.rglob("*.yaml")):
        content = utils.load_yaml_config(str(path), mode="simple")
        if content.get("task") == name:
            files.append(path)
    return files


def _build(settings: TaskSettings, path: Path, images: str | None) -> Any:
    from lmms_eval import utils
    from lmms_eval.api.task import ConfigurableMessagesTask

    try:
        config = utils.load_yaml_config(str(path), mode="full")
    except (OSError, yaml.YAMLError, ImportError, AttributeError) as error:
        raise TaskError(settings.name, f"{str(path)!r} cannot be read ({error})") from error
    # `token: True` means "must be logged in"; the data sets are public.
    options = {k: v for k, v in (config.get("dataset_kwargs") or {}).items() if k != "token"}
    if settings.data is not None:
        config["dataset_path"] = str(settings.data.absolute())
        options["cache_dir"] = str(_cache_folder(settings.data))
    if settings.revision is not None:
        options["revision"] = settings.revision
    config["dataset_kwargs"] = options
    try:
        with quiet():
            if images is not None:
                config["process_docs"] = None
                config["doc_to_visual"] = _images_by_id(config, images)
            # The name selects prompts written for certain models; "x" selects the default ones.
            return ConfigurableMessagesTask(config=config, model_name="x")
    except RetryError as error:
        cause = error.last_attempt.exception()
        raise TaskError(
            settings.name, f"its data {config['dataset_path']!r} cannot be loaded ({cause})"
        ) from cause
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TaskError(settings.name, f"cannot be built ({error})") from error


def _identity(path: Path, spec: MetricSpec, rows: Any, documents: tuple[int, ...]) -> str:
    """Images count by the documents they belong to; their bytes are not read."""
    content = hashlib.sha256(spec.model_dump_json().encode())
    content.update(version("lmms-eval").encode())
    for file in sorted(path.parent.iterdir()):
        if file.suffix in (".yaml", ".py") or file.name.startswith("_default"):
            content.update(file.read_bytes())
    content.update(json.dumps(documents).encode())
    content.update(json.dumps(rows.to_list(), default=str, sort_keys=True).encode())
    return content.hexdigest()


def _images_by_id(config: dict[str, Any], images: str) -> ImagesById:
    from datasets import load_dataset

    split = config["test_split"]
    options = config["dataset_kwargs"]
    return ImagesById(load_dataset(config["dataset_path"], images, split=split, **options))


def _cache_folder(data: Path) -> Path:
    """A cache of its own for every state of a local data folder.

    `datasets` tells local folders apart by their last name and configuration alone: two folders
    called `scenes`, or one whose files have changed, would give the documents of the first.
    """
    from datasets.config import HF_DATASETS_CACHE

    state = hashlib.sha256(str(data.absolute()).encode())
    for path in sorted(data.rglob("*")):
        if path.is_file():
            found = path.stat()
            state.update(f"{path}:{found.st_size}:{found.st_mtime_ns}".encode())
    return Path(HF_DATASETS_CACHE) / "mordal" / state.hexdigest()[:24]


def _declared(name: str, metadata: Any) -> MetricSpec:
    blocks = metadata if isinstance(metadata, list) else [metadata]
    declared = [b["mordal"] for b in blocks if isinstance(b, dict) and "mordal" in b]
    if not declared:
        raise TaskError(
            name,
            "its YAML does not say which metric counts; add `metadata: {mordal: {metric: "
            "'<metric>,<filter>'}}`",
        )
    try:
        return MetricSpec.model_validate(declared[0])
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"])
        raise TaskError(
            name,
            f"metadata.mordal.{key}: got {problem['input']!r}; {problem['msg'].lower()}; allowed "
            f"keys are {', '.join(sorted(MetricSpec.model_fields))}",
        ) from error


def _check_metric(name: str, spec: MetricSpec, config: Any) -> None:
    """Whether the results will hold what counts, as far as the task's YAML tells."""
    metric, chosen = spec.metric.split(",")
    metrics = [str(entry["metric"]) for entry in config.metric_list or ()]
    filters = [str(entry["name"]) for entry in config.filter_list or ()] or ["none"]
    if metric not in metrics or chosen not in filters:
        there = ", ".join(f"'{m},{f}'" for m in metrics for f in filters)
        raise TaskError(
            name, f"declares the metric {spec.metric!r}; its results will have {there}"
        )


def _select(
    live: Any, split: str, spec: MetricSpec, settings: TaskSettings, seed: int
) -> tuple[int, ...]:
    """Keep a fixed random subset of the documents; the first n are no sample."""
    total = len(live.dataset[split])
    if settings.documents is None or settings.documents == total:
        chosen = list(range(total))
    elif settings.documents > total:
        raise TaskError(
            settings.name, f"documents: {settings.documents} asked for; the task has {total}"
        )
    else:
        clusters = column_clusters(settings.name, live.dataset[split], spec.cluster_key)
        order = nested_order(total, clusters, seed)
        chosen = sorted(order[: settings.documents])
        live.dataset[split] = live.dataset[split].select(chosen)
        live.dataset_no_image[split] = live.dataset_no_image[split].select(chosen)
    # Without images: lmms-eval walks over these documents when it filters answers, and would
    # decode every picture for nothing.
    live.task_docs = live.dataset_no_image[split]
    return tuple(chosen)


def nested_order(total: int, clusters: Sequence[int] | None, seed: int) -> list[int]:
    """Documents in an order of which every beginning is a subset to score on.

    The order is random, with one document of every cluster before the second of any: of all
    subsets of a size, those with the most clusters know a score best.

    Args:
        total: documents.
        clusters: of each; None where all are independent.
        seed: of the order.
    """
    order = np.random.default_rng(seed).permutation(total).tolist()
    if clusters is None:
        return order
    seen: dict[int, int] = {}
    turns = {}
    for document in order:
        turns[document] = seen[clusters[document]] = seen.get(clusters[document], -1) + 1
    return sorted(order, key=turns.__getitem__)  # stable: random within a turn
