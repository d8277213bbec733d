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
        yamls = _yaml_files(self.path)
        definition = [*yamls, *_code_files(yamls).values()]
        return [*definition, *(file for place in self.data for file in files_below(place))]

    def definition_digests(self, spec: MetricSpec) -> dict[str, str]:
        """Digests of the prompt, the metric, lmms-eval's version, and Python files by name.

        YAML comments do not count. The Python files are those beside the YAML, those beside the
        YAMLs it includes, and those that hold its functions. Modules imported by these from
        elsewhere are not covered.

        Args:
            spec: main metric of the task.
        """
        from lmms_eval import utils

        content = utils.load_yaml_config(str(self.path), mode="simple")
        # Chance and options affect no score.
        metric = {key: content.get(key) for key in _METRIC_KEYS} | {
            "spec": spec.model_dump(exclude={"chance", "options"})
        }
        prompt = {k: v for k, v in content.items() if k not in _METRIC_KEYS | _LOCATION_KEYS}
        files = FileDigests()
        return {
            "prompt": _digest(prompt),
            "metric": _digest(metric),
            "lmms-eval": version("lmms-eval"),
            **{name: files.of(file) for name, file in _code_files(_yaml_files(self.path)).items()},
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


def _yaml_files(path: Path) -> list[Path]:
    """A YAML file and all files it includes, resolved as lmms-eval does."""
    files = [path]
    for key, value in _nodes(path):
        if key.value != "include":
            continue
        names = value.value if isinstance(value.value, list) else [value]
        for name in (str(node.value) for node in names):
            files += _yaml_files(Path(name) if Path(name).is_file() else path.parent / name)
    return list(dict.fromkeys(files))


def _code_files(yamls: list[Path]) -> dict[str, Path]:
    """Python files, named by their path relative to the first YAML or by their module."""
    home = yamls[0].parent
    beside = {file for path in yamls for file in path.parent.glob("*.py")}
    modules: dict[str, Path] = {}
    for path in yamls:
        for function in _functions(_nodes(path)):
            module = function.rpartition(".")[0]
            file = Path(os.path.normpath(path.parent / f"{module}.py"))
            if file.exists():
                beside.add(file)
            elif not module.startswith("lmms_eval."):  # covered by lmms-eval's version
                module_spec = importlib.util.find_spec(module)
                if module_spec and module_spec.origin:
                    modules[module] = Path(module_spec.origin)
    return {os.path.relpath(file, home): file for file in sorted(beside)} | modules


def _nodes(path: Path) -> list[tuple[yaml.Node, yaml.Node]]:
    """Keys and values of a YAML file as nodes, which keep their tags."""
    root = yaml.compose(path.read_text(encoding="utf-8"))
    return root.value if isinstance(root, yaml.MappingNode) else []


def _functions(nodes: Iterable[Any]) -> Iterator[str]:
    """Values of all `!function` tags."""
    for node in nodes:
        if isinstance(node, tuple):
            yield from _functions(node)
        elif node.tag == "!function":
            yield node.value
        elif isinstance(node.value, list):
            yield from _functions(node.value)
