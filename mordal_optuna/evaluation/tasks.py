"""Builds lmms-eval tasks: found by name, checked, with a main metric and a fixed subset."""

from __future__ import annotations

import hashlib
import re
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL.Image import Image
from pydantic import ValidationError
from tenacity import RetryError

from mordal_optuna.errors import TaskError
from mordal_optuna.evaluation.documents import column_clusters
from mordal_optuna.evaluation.faults import fault, task_faults
from mordal_optuna.evaluation.guards import import_lmms_eval, quiet, random_states_kept
from mordal_optuna.evaluation.judges import check_import, check_judge
from mordal_optuna.evaluation.metric import MetricSpec
from mordal_optuna.evaluation.source import TaskSource, document_digests, local_data
from mordal_optuna.evaluation.task import Task, select_documents
from mordal_optuna.evaluation.upstream import UPSTREAM, ImagesById
from mordal_optuna.evaluation.values import mean_of_value, valued_rows, without_submissions
from mordal_optuna.evaluation.yamls import load_yaml, upstream_folder
from mordal_optuna.files.digests import cache_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mordal_optuna.config import TaskSettings

# What may be the name of a column.
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*")


def build_task(settings: TaskSettings, folders: Sequence[Path], *, seed: int) -> Task:
    """Find a task by name and build it.

    A YAML in one of the folders takes precedence over lmms-eval's task of the same name.

    Args:
        settings: the study file's task section.
        folders: folders searched, with their subfolders, for YAMLs with `task: <name>`.
        seed: random seed of the document subset. Smaller subsets lie inside larger ones, and each
            spreads over as many clusters as possible.

    Raises:
        TaskError: if the task is not found, defined twice, or cannot be built.
        EvaluationError: if the documents lack the declared cluster key.
    """
    import_lmms_eval()
    path, upstream_spec = _find(settings.name, folders)
    config = _read_yaml(settings, path)
    spec = upstream_spec or _declared_spec(settings.name, config.get("metadata"))
    check_judge(settings.name, spec, config)
    config["metric_list"] = without_submissions(config.get("metric_list"), spec.document_key)
    if spec.value:
        config["metric_list"] = mean_of_value(config["metric_list"], spec.value)
    live = _build_live(settings, config, spec.images)
    split = live.config.test_split or live.config.validation_split
    _check_metric(settings.name, spec, live.config)
    if spec.value:
        select_documents(live, split, valued_rows(settings.name, live, split, spec))
    total = len(live.dataset[split])
    if settings.documents is not None and settings.documents > total:
        raise TaskError(
            settings.name, f"documents: {settings.documents} asked for; the task has {total}"
        )
    # Without images: lmms-eval walks over these documents when it filters answers, and would
    # decode every image for nothing.
    live.task_docs = live.dataset_no_image[split]
    clusters = column_clusters(settings.name, live.dataset[split], spec.cluster_key)
    source = TaskSource(path, local_data(config))
    task = Task(
        name=settings.name,
        spec=spec,
        live=live,
        split=split,
        documents=tuple(range(total)),
        batch_size=settings.batch_size,
        likelihood=settings.likelihood,
        clusters=clusters,
        order=tuple(nested_order(total, clusters, seed)),
        definition_digests=source.definition_digests(spec),
        document_digests=_document_digests(live, split, spec),
        source=source,
    )
    _check_fields(task)
    return task.subset(settings.documents or total)


def task_images(task: Task, count: int) -> list[Image]:
    """The first image of documents of a task, in the task's random order, without repetitions.

    Features of equal images agree for all models, so repeated images would raise all
    similarities.

    Args:
        task: a task whose documents have images.
        count: maximum number of images.

    Raises:
        TaskError: if a document has no image.
    """
    return images_of_all([task], count)


def images_of_all(tasks: Sequence[Task], count: int) -> list[Image]:
    """Images of several tasks, in equal shares and in turn, see `task_images`.

    Args:
        tasks: tasks whose documents have images, at least one.
        count: maximum number of images of all tasks together.

    Raises:
        TaskError: if a document has no image.
    """
    share = -(-count // len(tasks))
    turns = zip_longest(*(_images(task, share).items() for task in tasks))
    images = dict(entry for turn in turns for entry in turn if entry)
    return list(images.values())[:count]


def _images(task: Task, count: int) -> dict[bytes, Image]:
    """Different images of a task by their digest, at most so many."""
    docs = task.live.dataset[task.split]
    place = {document: row for row, document in enumerate(task.documents)}
    images: dict[bytes, Image] = {}
    for document in (d for d in task.order if d in place):
        if len(images) == count:
            break
        with task_faults(task.name, "`doc_to_visual` fails"):
            visuals = task.live.doc_to_visual(docs[place[document]])
        if not visuals:
            raise TaskError(
                task.name, f"document {document} has no image; the target task must be visual"
            )
        if not isinstance(visuals[0], Image):
            raise TaskError(
                task.name,
                f"`doc_to_visual` gives {type(visuals[0]).__name__} for document {document}; it "
                "must give a list of PIL images",
            )
        image = visuals[0].convert("RGB")
        images.setdefault(hashlib.sha256(image.tobytes()).digest(), image)
    return images


def nested_order(total: int, clusters: Sequence[int] | None, seed: int) -> list[int]:
    """A random order of documents whose first n documents form the subset of size n.

    One document of every cluster precedes the second document of any cluster: among subsets of
    one size, those with the most clusters give the smallest standard error.

    Args:
        total: number of documents.
        clusters: cluster number of each document; None where all documents are independent.
        seed: random seed of the order.
    """
    order = np.random.default_rng(seed).permutation(total).tolist()
    if clusters is None:
        return order
    last_turn: dict[int, int] = {}
    turns = {}
    for document in order:
        cluster = clusters[document]
        turns[document] = last_turn[cluster] = last_turn.get(cluster, -1) + 1
    return sorted(order, key=turns.__getitem__)  # stable: random within a turn


def _find(name: str, folders: Sequence[Path]) -> tuple[Path, MetricSpec | None]:
    """A task's YAML, and its main metric where it is one of lmms-eval's tasks."""
    matches = [path for folder in folders for path in _task_files(folder, name)]
    if len(matches) > 1:
        places = " and ".join(repr(str(path)) for path in matches[:2])
        raise TaskError(name, f"is defined in {places}; one definition is allowed")
    if matches:
        return matches[0], None
    if name in UPSTREAM:
        return upstream_folder() / UPSTREAM[name].yaml, UPSTREAM[name].spec
    searched = ", ".join(repr(str(folder)) for folder in folders) or "no folder"
    raise TaskError(
        name,
        f"is in no YAML below {searched}, nor one of lmms-eval's tasks known here: "
        f"{', '.join(sorted(UPSTREAM))}; a YAML of a few lines adds another of lmms-eval's, see "
        "docs/add-a-benchmark.md",
    )


def _task_files(folder: Path, name: str) -> list[Path]:
    files = []
    for path in sorted(folder.rglob("*.yaml")):
        with task_faults(name, f"{str(path)!r} cannot be read"):
            content = load_yaml(path, "simple")
        if isinstance(content, dict) and content.get("task") == name:
            files.append(path)
    return files


def _read_yaml(settings: TaskSettings, path: Path) -> dict[str, Any]:
    """Content of a task's YAML, with the data location that the study file sets."""
    try:
        with task_faults(settings.name, f"{str(path)!r} cannot be read"):
            config: dict[str, Any] = load_yaml(path, "full")
    except TaskError as error:
        check_import(settings.name, error.__cause__)
        raise
    if not (config.get("test_split") or config.get("validation_split")):
        raise TaskError(
            settings.name, f"{str(path)!r} names no `test_split`, whose documents are scored"
        )
    # `token: True` means "must be logged in"; the data sets are public.
    options = {k: v for k, v in (config.get("dataset_kwargs") or {}).items() if k != "token"}
    if settings.data is not None:
        config["dataset_path"] = str(settings.data.absolute())
    given = config.get("dataset_path")
    if not isinstance(given, str) or not given:
        raise TaskError(
            settings.name, f"{str(path)!r} names no `dataset_path`, nor `data` a folder"
        )
    place = Path(given)
    if given.startswith((".", "/", "~")) and not place.exists():  # not asked of the hub
        raise TaskError(settings.name, f"its data {given!r} do not exist; `data:` names a folder")
    if place.is_dir():
        options["cache_dir"] = str(cache_folder(place))
    if settings.revision is not None:
        options["revision"] = settings.revision
    return config | {"dataset_kwargs": options}


def _build_live(settings: TaskSettings, config: dict[str, Any], images: str | None) -> Any:
    """lmms-eval's task object; `images` names the dataset configuration that holds the images."""
    from lmms_eval.api.task import ConfigurableMessagesTask

    split = config.get("test_split") or config.get("validation_split")
    try:
        with task_faults(settings.name, "cannot be built"), quiet():
            if images is not None:
                config["process_docs"] = None
                config["doc_to_visual"] = _images_by_id(config, images)
            # The name selects prompts written for certain models; "x" selects the default ones.
            return ConfigurableMessagesTask(config=config, model_name="x")
    except TaskError as error:
        cause = error.__cause__
        if isinstance(cause, KeyError) and cause.args == (split,):
            raise TaskError(
                settings.name,
                f"its data {config['dataset_path']!r} have no split {split!r}; `test_split` of "
                "its YAML must name one that they have",
            ) from cause
        if cause and isinstance(error.__context__, RetryError):
            raise TaskError(
                settings.name,
                f"its data {config['dataset_path']!r} cannot be loaded ({fault(cause)})",
            ) from cause
        if isinstance(cause, IndexError):
            raise TaskError(settings.name, f"has no document in the split {split!r}") from cause
        raise


def _document_digests(live: Any, split: str, spec: MetricSpec) -> tuple[str, ...]:
    """Digest of each document; images held apart are digested together and appended to each."""
    digests = document_digests(live.dataset[split])
    if spec.images is None:
        return digests
    images = live.config.doc_to_visual.digest()
    return tuple(f"{digest}:{images}" for digest in digests)


def _images_by_id(config: dict[str, Any], images: str) -> ImagesById:
    from datasets import load_dataset

    split = config["test_split"]
    options = config["dataset_kwargs"]
    return ImagesById(load_dataset(config["dataset_path"], images, split=split, **options))


def _declared_spec(name: str, metadata: Any) -> MetricSpec:
    """The `mordal` block of a YAML's metadata."""
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
    """Refuse a main metric that the task's YAML does not compute."""
    metric, chosen = spec.metric.split(",")
    metrics = [str(entry["metric"]) for entry in config.metric_list or ()]
    filters = [str(entry["name"]) for entry in config.filter_list or ()] or ["none"]
    if metric not in metrics or chosen not in filters:
        available = ", ".join(f"'{m},{f}'" for m in metrics for f in filters)
        raise TaskError(
            name, f"declares the metric {spec.metric!r}; its results will have {available}"
        )


def _check_fields(task: Task) -> None:
    """Refuse, before any training, misspelt fields, missing answers, and code that fails."""
    _ = task.chance
    columns = task.live.features
    # Code of the task's own that judges answers may need no target: VizWiz names a column that
    # there is not.
    judges = callable(task.live.config.process_results)
    for key in ("doc_to_text",) if judges else ("doc_to_text", "doc_to_target"):
        named = getattr(task.live.config, key)
        # lmms-eval takes any other text for the text itself.
        if isinstance(named, str) and _IDENTIFIER.fullmatch(named) and named not in columns:
            raise TaskError(
                task.name, f"{key}: got {named!r}; its documents have {', '.join(columns)}"
            )
    if task.likelihood:
        with task_faults(task.name, "`doc_to_target` fails"):
            task.reference(0)
    judge = task.live.config.process_results
    if not callable(judge):
        return
    # lmms-eval tries it five times, seconds apart, for every document.
    with task_faults(task.name, "`process_results` fails"), random_states_kept(), quiet():
        values = judge(task.rows[0], ["A"])
    if isinstance(values, dict) and task.spec.document_key not in values:
        raise TaskError(
            task.name,
            f"`process_results` gives {', '.join(map(str, values)) or 'nothing'}; its YAML "
            f"declares the metric {task.spec.document_key!r}",
        )
