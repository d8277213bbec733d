"""YAMLs of tasks, read as lmms-eval reads them; they may also include lmms-eval's own tasks.

lmms-eval looks for an included file in the current folder and beside the YAML that includes it.
Here it is also looked for below lmms-eval's folder of tasks, so that `include: pope/pope.yaml`
names the same task wherever lmms-eval is installed.
"""

from __future__ import annotations

import io
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import yaml

# What becomes of `!function`: nothing, or the function is imported.
Mode = Literal["simple", "full"]


def upstream_folder() -> Path:
    """lmms-eval's folder of tasks; loads no module of lmms-eval's but its first."""
    spec = find_spec("lmms_eval")
    assert spec
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "tasks"


def load_yaml(path: Path, mode: Mode) -> Any:
    """Content of a task's YAML, with what it includes.

    Args:
        path: the YAML.
        mode: what becomes of `!function`.

    Raises:
        OSError: if the file or an included one cannot be read.
        yaml.YAMLError: if it is no YAML.
    """
    from lmms_eval import utils

    includes = _includes(path)
    if not any(upstream for _, upstream in includes):
        return utils.load_yaml_config(str(path), mode=mode)
    content: dict[str, Any] = {}
    for file, _ in reversed(includes):  # as lmms-eval: the first one wins
        content |= load_yaml(file, mode)
    # Reading the included files has told `yaml` what `!function` becomes.
    own = yaml.full_load(_without_include(path))
    whole = content | (own or {})
    return utils.load_yaml_config(
        str(path), yaml_config=whole, yaml_dir=str(path.parent), mode=mode
    )


def yaml_files(path: Path) -> list[Path]:
    """A YAML and all files that it includes, without those that only lmms-eval's folder has.

    Args:
        path: the YAML.
    """
    files = [path]
    for file, upstream in _includes(path):
        files += [] if upstream else yaml_files(file)
    return list(dict.fromkeys(files))


def nodes(path: Path) -> list[tuple[yaml.Node, yaml.Node]]:
    """Keys and values of a YAML file as nodes, which keep their tags.

    Args:
        path: the YAML.
    """
    root = yaml.compose(path.read_bytes())  # an encoding other than UTF-8 is an error of YAML
    return root.value if isinstance(root, yaml.MappingNode) else []


def _includes(path: Path) -> list[tuple[Path, bool]]:
    """The files that a YAML includes itself, and whether each is only in lmms-eval's folder."""
    found = []
    for key, value in nodes(path):
        if key.value == "include":
            names = value.value if isinstance(value, yaml.SequenceNode) else [value]
            found += [_place(path, str(node.value)) for node in names]
    return found


def _place(path: Path, name: str) -> tuple[Path, bool]:
    beside, upstream = path.parent / name, upstream_folder() / name
    if Path(name).is_file():
        return Path(name), False
    if upstream.is_file() and not beside.is_file():
        return upstream, True
    return beside, False


def _without_include(path: Path) -> io.StringIO:
    """The text of a YAML without its `include`, under the file's name, which `!function` reads."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    for key, value in nodes(path):
        if key.value == "include":
            last = value.end_mark.line + (value.end_mark.column > 0)
            lines[key.start_mark.line : last] = [""] * (last - key.start_mark.line)
    text = io.StringIO("".join(lines))
    text.name = str(path)
    return text
