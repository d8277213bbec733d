"""Reads a YAML file that holds a mapping; every fault of it becomes one sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml
from yaml.constructor import ConstructorError
from yaml.reader import ReaderError

from mordal_optuna.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

_MERGE = "tag:yaml.org,2002:merge"
# Characters of a name that are shown.
_SHOWN = 200
_KINDS = {list: "a list", str: "a text", int: "a number", float: "a number"}


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which refuses a key that a mapping has twice."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Compose a mapping; looked at here, before keys of other mappings are merged into it."""
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
                continue
            if (key.tag, key.value) in seen:
                problem = f"the key {key.value!r} is given twice"
                raise ConstructorError(None, None, problem, key.start_mark)
            seen.add((key.tag, key.value))
        return node


def read_mapping(path: Path, kind: str = "study file") -> dict[Any, Any]:
    """Read a YAML file.

    Args:
        path: path of the file.
        kind: what it is, which begins the sentences.

    Returns:
        The mapping.

    Raises:
        ConfigError: if it cannot be read, is not valid YAML, has a key twice, or is no mapping.
    """
    shown = str(path) if len(str(path)) <= _SHOWN else f"{str(path)[:_SHOWN]}..."
    content = _parsed(_text(path, f"{kind} {shown!r}"), f"{kind} {shown!r}")
    if content is None:
        raise ConfigError(
            [f"{kind} {shown!r} is empty; it must hold a mapping of keys, such as `study:`"]
        )
    if not isinstance(content, dict):
        found = _KINDS.get(type(content), f"a {type(content).__name__}")
        raise ConfigError(
            [f"{kind} {shown!r} holds {found}; it must hold a mapping of keys, such as `study:`"]
        )
    return content


def _text(path: Path, named: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ConfigError([f"{named} does not exist"]) from error
    except IsADirectoryError as error:
        raise ConfigError([f"{named} is a folder; it must be a YAML file"]) from error
    except UnicodeDecodeError as error:
        byte = f"byte {error.start} is {error.object[error.start]:#04x}"
        raise ConfigError([f"{named} is not UTF-8 ({byte}); save it as UTF-8"]) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError([f"{named} cannot be read ({reason}); it must be a file"]) from error


def _parsed(text: str, named: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader
    except (yaml.YAMLError, ValueError) as error:  # a date or a number that is none
        raise ConfigError([f"{named} is not valid YAML: {yaml_fault(error, text)}"]) from error
    except RecursionError as error:
        raise ConfigError([f"{named} is nested too deeply"]) from error


def yaml_fault(error: Exception, text: str | None = None) -> str:
    """What is wrong with a YAML text, and where, in one line.

    Args:
        error: what PyYAML raised.
        text: the text; None if PyYAML has read a file.
    """
    if isinstance(error, ReaderError) and text is None:
        return f"byte {error.position} is not UTF-8, or no character that YAML allows"
    if isinstance(error, ReaderError):
        line = (text or "").count("\n", 0, error.position) + 1
        return f"line {line} has the character {chr(int(error.character))!r}"
    if isinstance(error, yaml.MarkedYAMLError) and error.problem:
        mark = error.problem_mark or error.context_mark
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        before = f"{error.context}, " if error.context else ""
        return f"{before}{error.problem}{where}"
    return " ".join(str(error).split())
