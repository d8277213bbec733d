"""Where a task is defined, and digests of its definition and its documents."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from mordal_optuna.evaluation.yamls import load_yaml, nodes, yaml_files
from mordal_optuna.files.digests import FileDigests, files_below

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from mordal_optuna.evaluation.metric import MetricSpec

# Keys of a task's YAML that say how answers are judged.
_METRIC_KEYS = {"metric_list", "filter_list", "metadata"}
# Keys that say where the documents are; documents are compared by content instead.
_LOCATION_KEYS = {"dataset_path", "dataset_kwargs"}
# Number of documents read at once.
_BATCH = 64


@dataclass(frozen=True)
class TaskSource:
    """Location of a task's definition and of its documents, if they are local.

    Attributes:
        path: the task's YAML file.
        data: local data files and folders; empty where the documents come from the hub.
    """

    path: Path
    data: tuple[Path, ...] = ()

    def files(self) -> list[Path]:
        """All local files that shape the task, as listed now."""
        yamls = yaml_files(self.path)
        definition = [*yamls, *_code_files(yamls).values()]
        return [*definition, *(file for place in self.data for file in files_below(place))]

    def definition_digests(self, spec: MetricSpec) -> dict[str, str]:
        """Digests of the prompt, the metric, lmms-eval's version, and Python files by name.

        YAML comments do not count. The Python files are those beside the YAML, those beside the
        YAMLs it includes, and those that hold its functions. Modules imported by these from
        elsewhere are not covered; what a YAML includes from lmms-eval's folder is, by its version.

        Args:
            spec: main metric of the task.
        """
        content = load_yaml(self.path, "simple")
        # Chance and options affect no score; older versions had no `value` and no `judge`.
        later = {name for name in ("value", "judge") if getattr(spec, name) is None}
        metric = {key: content.get(key) for key in _METRIC_KEYS} | {
            "spec": spec.model_dump(exclude={"chance", "options", *later})
        }
        prompt = {k: v for k, v in content.items() if k not in _METRIC_KEYS | _LOCATION_KEYS}
        files = FileDigests()
        return {
            "prompt": _digest(prompt),
            "metric": _digest(metric),
            "lmms-eval": version("lmms-eval"),
            **{name: files.of(file) for name, file in _code_files(yaml_files(self.path)).items()},
        }


def document_digests(documents: Any) -> tuple[str, ...]:
    """SHA-256 of every document, encoded images included.

    Args:
        documents: a dataset; images are not decoded.
    """
    return tuple(
        _digest(row)
        for table in documents.with_format("arrow").iter(batch_size=_BATCH)
        for row in table.to_pylist()
    )


def local_data(config: Mapping[str, Any]) -> tuple[Path, ...]:
    """Existing local files and folders that a task's YAML names as data.

    Args:
        config: content of the YAML, as lmms-eval reads it.
    """
    data_files = (config.get("dataset_kwargs") or {}).get("data_files") or ()
    groups = data_files.values() if isinstance(data_files, dict) else [data_files]
    files = [f for group in groups for f in ([group] if isinstance(group, str) else group)]
    places = [Path(str(place)) for place in (config.get("dataset_path"), *files) if place]
    return tuple(place for place in places if place.exists())


def _digest(value: Any) -> str:
    text = json.dumps(_as_json(value), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _as_json(value: Any) -> Any:
    """A value in JSON's types; an encoded image is represented by the digest of its bytes."""
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    if isinstance(value, yaml.ScalarNode):  # `!function`
        return [value.tag, value.value]
    if isinstance(value, list):
        return [_as_json(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"bytes", "path"}:
        content, path = value["bytes"], value["path"]
        if content is None and path is not None and Path(path).is_file():
            content = Path(path).read_bytes()
        return path if content is None else _as_json(content)
    return {str(key): _as_json(entry) for key, entry in value.items()}


def _code_files(yamls: list[Path]) -> dict[str, Path]:
    """Python files, named by their path relative to the first YAML or by their module."""
    home = yamls[0].parent
    beside = {file for path in yamls for file in path.parent.glob("*.py")}
    modules: dict[str, Path] = {}
    for path in yamls:
        for function in _functions(nodes(path)):
            module = function.rpartition(".")[0]
            file = Path(os.path.normpath(path.parent / f"{module}.py"))
            if file.exists():
                beside.add(file)
            elif not module.startswith("lmms_eval."):  # covered by lmms-eval's version
                module_spec = importlib.util.find_spec(module)
                if module_spec and module_spec.origin:
                    modules[module] = Path(module_spec.origin)
    return {os.path.relpath(file, home): file for file in sorted(beside)} | modules


def _functions(found: Iterable[Any]) -> Iterator[str]:
    """Values of all `!function` tags."""
    for node in found:
        if isinstance(node, tuple):
            yield from _functions(node)
        elif node.tag == "!function":
            yield node.value
        elif isinstance(node.value, list):
            yield from _functions(node.value)
