"""lmms-eval tasks: found by name, built once, with the metric that counts and a fixed subset."""

from __future__ import annotations

import copy
import hashlib
import json
from ast import literal_eval
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from pydantic import ValidationError
from tenacity import RetryError

from mordal_optuna.errors import TaskError
from mordal_optuna.evaluation.documents import column_clusters
from mordal_optuna.evaluation.guards import import_lmms_eval, quiet
from mordal_optuna.evaluation.identity import TaskSource, document_prints, local_data
from mordal_optuna.evaluation.upstream import UPSTREAM, ImagesById, MetricSpec
from mordal_optuna.files.digests import cache_folder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
        batch_size: documents generated for at once.
        likelihood: whether the likelihood of the reference answers is measured as well.
        clusters: of each document, such as those on one image; None where all are independent.
        order: all documents of the split, by original index; every beginning is a subset.
        code: digests of what shapes its scores beside the model and the documents: the prompt,
            what counts, lmms-eval's version and the task's own Python files.
        prints: a digest of each document, its images included.
        source: where it is defined.
    """

    name: str
    spec: MetricSpec
    live: Any
    split: str
    documents: tuple[int, ...]
    batch_size: int = 16
    likelihood: bool = True
    clusters: tuple[int, ...] | None = field(default=None, repr=False)
    order: tuple[int, ...] = field(default=(), repr=False)
    code: Mapping[str, str] = field(default_factory=dict, repr=False)
    prints: tuple[str, ...] = field(default=(), repr=False)
    source: TaskSource | None = field(default=None, repr=False)

    @cached_property
    def identity(self) -> str:
        """SHA-256 of all that shapes its scores but the model."""
        shaped = [dict(self.code), self.likelihood, self.documents, self.prints]
        return hashlib.sha256(json.dumps(shaped, sort_keys=True).encode()).hexdigest()

    @cached_property
    def chance(self) -> float:
        """Score of one who guesses, 0..1; where documents list their options, their mean 1/n.

        Raises:
            TaskError: if the documents have no such field.
        """
        if self.spec.options is None:
            return self.spec.chance
        documents = self.live.dataset_no_image[self.split]
        if self.spec.options not in documents.column_names:
            raise TaskError(
                self.name,
                f"declares options: {self.spec.options!r}; its documents have "
                f"{', '.join(documents.column_names)}",
            )
        listed = documents.select_columns([self.spec.options])[self.spec.options]
        counts = [len(_listed(options)) for options in listed]
        return float(np.mean([1 / n if n > 1 else 0.0 for n in counts]))

    def reference(self, document: int) -> str:
        """The reference answer of a document.

        Where there are several, the one given most often, the first among equals.

        Args:
            document: its position among `documents`.

        Raises:
            TaskError: if it has none.
        """
        row = self.live.dataset_no_image[self.split][document]
        if self.spec.gold and self.spec.gold not in row:
            raise TaskError(
                self.name,
                f"declares gold: {self.spec.gold!r}; its documents have {', '.join(row)}",
            )
        given = row[self.spec.gold] if self.spec.gold else self.live.doc_to_target(row)
        if isinstance(given, int) and self.live.config.doc_to_choice is not None:
            given = self.live.doc_to_choice(row)[given]
        if isinstance(given, str) and given[:1] == "[" and given[-1:] == "]":
            given = literal_eval(given)  # as MMMU writes several
        answers = [str(a) for a in given] if isinstance(given, list | tuple) else [str(given)]
        if not answers or not answers[0]:
            raise TaskError(
                self.name,
                f"document {document} has no reference answer; set `likelihood: false` to do "
                "without the likelihood of answers",
            )
        return max(answers, key=answers.count)

    def subset(self, count: int) -> Task:
        """The same task on fewer documents: the first of its nested order.

        Args:
            count: how many.

        Raises:
            TaskError: if it has no more than that.
        """
        if count > len(self.documents):
            raise TaskError(
                self.name, f"{count} documents asked for; it is scored on {len(self.documents)}"
            )
        if count == len(self.documents):
            return self
        chosen = sorted(self.order[:count])
        place = {document: row for row, document in enumerate(self.documents)}
        rows = [place[document] for document in chosen]
        live = copy.copy(self.live)  # lmms-eval sets its requests anew for every evaluation
        _keep(live, self.split, rows)
        clusters = None if self.clusters is None else tuple(self.clusters[row] for row in rows)
        prints = tuple(self.prints[row] for row in rows)
        return replace(self, live=live, documents=tuple(chosen), clusters=clusters, prints=prints)


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
    path, known = _find(settings.name, folders)
    config = _read(settings, path)
    spec = known or _declared(settings.name, config.get("metadata"))
    live = _build(settings, config, spec.images)
    split = live.config.test_split or live.config.validation_split
    _check_metric(settings.name, spec, live.config)
    total = len(live.dataset[split])
    if settings.documents is not None and settings.documents > total:
        raise TaskError(
            settings.name, f"documents: {settings.documents} asked for; the task has {total}"
        )
    # Without images: lmms-eval walks over these documents when it filters answers, and would
    # decode every picture for nothing.
    live.task_docs = live.dataset_no_image[split]
    clusters = column_clusters(settings.name, live.dataset[split], spec.cluster_key)
    source = TaskSource(path, local_data(config))
    whole = Task(
        name=settings.name,
        spec=spec,
        live=live,
        split=split,
        documents=tuple(range(total)),
        batch_size=settings.batch_size,
        likelihood=settings.likelihood,
        clusters=clusters,
        order=tuple(nested_order(total, clusters, seed)),
        code=source.code(spec),
        prints=_prints(live, split, spec),
        source=source,
    )
    _ = whole.chance  # a misspelt `options` is refused before any training
    if settings.likelihood:
        whole.reference(0)  # a task without reference answers is refused before any training
    return whole.subset(settings.documents or total)


def _listed(options: Any) -> Sequence[Any]:
    """Options of a document; MMMU writes a list as text."""
    found: Sequence[Any] = literal_eval(options) if isinstance(options, str) else options or ()
    return found


def task_images(task: Task, count: int) -> list[Image]:
    """The first image of documents of a task, in the task's own random order.

    No image comes twice: features of equal images agree whatever the models are, and pull all
    similarities up.

    Args:
        task: any task with images.
        count: how many; all if there are fewer different ones.

    Raises:
        TaskError: if a document has no image, or there are fewer than 4 different images.
    """
    docs = task.live.dataset[task.split]
    place = {document: row for row, document in enumerate(task.documents)}
    images: dict[bytes, Image] = {}
    for document in (d for d in task.order if d in place):
        if len(images) == count:
            break
        visuals = task.live.doc_to_visual(docs[place[document]])
        if not visuals:
            raise TaskError(
                task.name, f"document {document} has no image; the target task must be visual"
            )
        image = visuals[0].convert("RGB")
        images.setdefault(hashlib.sha256(image.tobytes()).digest(), image)
    if len(images) < 4:
        raise TaskError(
            task.name,
            f"shows {len(images)} different images; comparing models needs at least 4",
        )
    return list(images.values())


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


def _read(settings: TaskSettings, path: Path) -> dict[str, Any]:
    """A task's YAML, with the data that the study file names."""
    from lmms_eval import utils

    try:
        config: dict[str, Any] = utils.load_yaml_config(str(path), mode="full")
    except (OSError, yaml.YAMLError, ImportError, AttributeError) as error:
        raise TaskError(settings.name, f"{str(path)!r} cannot be read ({error})") from error
    # `token: True` means "must be logged in"; the data sets are public.
    options = {k: v for k, v in (config.get("dataset_kwargs") or {}).items() if k != "token"}
    if settings.data is not None:
        config["dataset_path"] = str(settings.data.absolute())
    place = Path(str(config.get("dataset_path")))
    if place.is_dir():
        options["cache_dir"] = str(cache_folder(place))
    if settings.revision is not None:
        options["revision"] = settings.revision
    return config | {"dataset_kwargs": options}


def _build(settings: TaskSettings, config: dict[str, Any], images: str | None) -> Any:
    from lmms_eval.api.task import ConfigurableMessagesTask

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


def _prints(live: Any, split: str, spec: MetricSpec) -> tuple[str, ...]:
    """A digest of each document; images that documents name are digested with all of them."""
    found = document_prints(live.dataset[split])
    if spec.images is None:
        return found
    images = live.config.doc_to_visual.digest()
    return tuple(f"{digest}:{images}" for digest in found)


def _images_by_id(config: dict[str, Any], images: str) -> ImagesById:
    from datasets import load_dataset

    split = config["test_split"]
    options = config["dataset_kwargs"]
    return ImagesById(load_dataset(config["dataset_path"], images, split=split, **options))


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


def _keep(live: Any, split: str, rows: Sequence[int]) -> None:
    """Leave a live task some of its documents; what others hold of it stays as it is."""
    live.dataset, live.dataset_no_image = live.dataset.copy(), live.dataset_no_image.copy()
    for held in (live.dataset, live.dataset_no_image):
        held[split] = held[split].select(rows)
    live.task_docs = live.dataset_no_image[split]


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
