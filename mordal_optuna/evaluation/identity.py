"""What tells a task from another: its prompt, what counts, its code, its documents."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from mordal_optuna.files.digests import FileDigests, file_states, files_below

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from mordal_optuna.evaluation.tasks import Task
    from mordal_optuna.evaluation.upstream import MetricSpec

# Keys of a task's YAML that say how answers are judged.
_METRIC_KEYS = {"metric_list", "filter_list", "metadata"}
# Those that say where the documents are; documents count by their content.
_PLACE_KEYS = {"dataset_path", "dataset_kwargs"}
# Documents that are read at once.
_BATCH = 64


@dataclass(frozen=True)
class TaskSource:
    """Where a task is defined and where its documents are, if they are local.

    Attributes:
        path: its YAML.
        data: files and folders; none where the documents come from the hub.
    """

    path: Path
    data: tuple[Path, ...] = ()

    def files(self) -> list[Path]:
        """All local files that shape it, as they are now."""
        yamls = _yaml_files(self.path)
        found = [*yamls, *_code_files(yamls).values()]
        return [*found, *(file for place in self.data for file in files_below(place))]

    def code(self, spec: MetricSpec) -> dict[str, str]:
        """Digests of the prompt, what counts, lmms-eval's version, and Python files by name.

        Comments in a YAML do not count. Python files are those beside the YAML, beside what it
        includes, and those its functions are in; modules that these import from elsewhere are not
        seen.

        Args:
            spec: what counts.
        """
        from lmms_eval import utils

        content = utils.load_yaml_config(str(self.path), mode="simple")
        # What a guesser would score shapes no score.
        metric = {key: content.get(key) for key in _METRIC_KEYS} | {
            "spec": spec.model_dump(exclude={"chance", "options"})
        }
        prompt = {k: v for k, v in content.items() if k not in _METRIC_KEYS | _PLACE_KEYS}
        read = FileDigests()
        return {
            "prompt": _digest(prompt),
            "metric": _digest(metric),
            "lmms-eval": version("lmms-eval"),
            **{name: read.of(file) for name, file in _code_files(_yaml_files(self.path)).items()},
        }


class TaskPart:
    """A task as a part of a study's inputs."""

    def __init__(self, task: Task) -> None:
        """Hold the digests of a task that was just built.

        Args:
            task: with all of its documents that are ever scored.
        """
        self._source = task.source
        self._task = task
        self._seen = file_states(task.source.files()) if task.source else {}

    @cached_property
    def digests(self) -> Mapping[str, str]:
        """By aspect: prompt, metric, documents, lmms-eval, Python files by name."""
        documents = hashlib.sha256("".join(self._task.prints).encode()).hexdigest()
        return {**self._task.code, "documents": documents}

    def unchanged(self, samples: int) -> bool:  # noqa: ARG002 - all documents count at all rungs
        """Whether its files have the sizes and times they had; takes microseconds a file.

        Documents from the hub were read when it was built and cannot change under it.
        """
        return self._source is None or file_states(self._source.files()) == self._seen


def document_prints(documents: Any) -> tuple[str, ...]:
    """A digest of every document, encoded images included.

    Args:
        documents: a dataset; its images are not decoded.
    """
    return tuple(
        _digest(row)
        for table in documents.with_format("arrow").iter(batch_size=_BATCH)
        for row in table.to_pylist()
    )


def local_data(config: Mapping[str, Any]) -> tuple[Path, ...]:
    """Local files and folders that a task's YAML takes its documents from.

    Args:
        config: the YAML, as lmms-eval reads it.
    """
    named = (config.get("dataset_kwargs") or {}).get("data_files") or ()
    groups = named.values() if isinstance(named, dict) else [named]
    files = [f for group in groups for f in ([group] if isinstance(group, str) else group)]
    places = [Path(str(place)) for place in (config.get("dataset_path"), *files) if place]
    return tuple(place for place in places if place.exists())


def _digest(value: Any) -> str:
    text = json.dumps(_content(value), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _content(value: Any) -> Any:
    """A value as JSON has it; an encoded image counts by its bytes, wherever they are."""
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    if isinstance(value, yaml.ScalarNode):  # `!function`
        return [value.tag, value.value]
    if isinstance(value, list):
        return [_content(one) for one in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"bytes", "path"}:
        held, path = value["bytes"], value["path"]
        if held is None and path is not None and Path(path).is_file():
            held = Path(path).read_bytes()
        return path if held is None else _content(held)
    return {str(key): _content(one) for key, one in value.items()}


def _yaml_files(path: Path) -> list[Path]:
    """A YAML and all it includes, found as lmms-eval finds them."""
    found = [path]
    for key, value in _composed(path):
        if key.value != "include":
            continue
        names = value.value if isinstance(value.value, list) else [value]
        for name in (str(one.value) for one in names):
            found += _yaml_files(Path(name) if Path(name).is_file() else path.parent / name)
    return list(dict.fromkeys(found))


def _code_files(yamls: list[Path]) -> dict[str, Path]:
    """Python files by their place beside the first YAML, or by their module's name."""
    home = yamls[0].parent
    beside = {file for path in yamls for file in path.parent.glob("*.py")}
    modules: dict[str, Path] = {}
    for path in yamls:
        for function in _functions(_composed(path)):
            module = function.rpartition(".")[0]
            file = Path(os.path.normpath(path.parent / f"{module}.py"))
            if file.exists():
                beside.add(file)
            elif not module.startswith("lmms_eval."):  # which its version stands for
                found = importlib.util.find_spec(module)
                modules |= {module: Path(found.origin)} if found and found.origin else {}
    return {os.path.relpath(file, home): file for file in sorted(beside)} | modules


def _composed(path: Path) -> list[tuple[yaml.Node, yaml.Node]]:
    """Keys and values of a YAML as they are written, tags included."""
    root = yaml.compose(path.read_text(encoding="utf-8"))
    return root.value if isinstance(root, yaml.MappingNode) else []


def _functions(pairs: Iterable[Any]) -> Iterator[str]:
    """Values of all `!function` tags."""
    for one in pairs:
        if isinstance(one, tuple):
            yield from _functions(one)
        elif one.tag == "!function":
            yield one.value
        elif isinstance(one.value, list):
            yield from _functions(one.value)
