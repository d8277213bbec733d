"""Reads and checks study files; each mistake becomes one sentence with key, value and remedy."""

from __future__ import annotations

import reprlib
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from mordal_optuna.config.base import NAME_PATTERN
from mordal_optuna.config.describing import section_of
from mordal_optuna.config.locations import location_problems
from mordal_optuna.config.schema import StudySettings
from mordal_optuna.config.yaml_file import read_mapping
from mordal_optuna.errors import ConfigError
from mordal_optuna.search.methods.catalogue import METHODS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

# Characters of a value that a sentence shows.
_LONGEST = 100
_ABSENT = object()
_EMPTY: tuple[Any, ...] = (None, [], _ABSENT)


def read_study(
    path: Path,
    *,
    method: str | None = None,
    name: str | None = None,
    extends: str | None = None,
    places: bool = True,
) -> StudySettings:
    """Read and check a study file.

    Args:
        path: path of the YAML file.
        method: search method, instead of the file's; the study gets a name of its own.
        name: name of the study, instead of the file's.
        extends: name of the study to take scores over from, instead of the file's.
        places: whether models and data must be found; False on a machine that only looks on.

    Returns:
        The settings, with all defaults filled in.

    Raises:
        ConfigError: if the file cannot be read or used; one sentence per problem, with the key,
            the value and what is allowed.
    """
    content = read_mapping(path)
    content = with_method(content, method) if method else content
    given = {key: value for key, value in (("study", name), ("extends", extends)) if value}
    return parse_study({**content, **given}, places=places)


def with_method(content: dict[str, Any], method: str) -> dict[str, Any]:
    """A study file's content with another method, and the study renamed `<study>-<method>`.

    Args:
        content: content of the study file; stays unchanged.
        method: search method.

    Raises:
        ConfigError: if the method does not exist.
    """
    if method not in METHODS:
        raise ConfigError([f"--method: got {method!r}; allowed are {', '.join(METHODS)}"])
    search = content.get("search") or {}
    if not isinstance(search, dict) or search.get("method", "mordal") == method:
        return content
    changed = {**content, "search": {**search, "method": method}}
    if isinstance(content.get("study"), str):
        changed["study"] = f"{content['study']}-{method}"
    return changed


def parse_study(content: dict[str, Any], *, places: bool = True) -> StudySettings:
    """Check the content of a study file.

    Args:
        content: nested mapping, as in the study file.
        places: whether models and data must be found on this machine.

    Returns:
        The settings, with all defaults filled in.

    Raises:
        ConfigError: if a key or value cannot be used; one sentence per problem, with the key, the
            value and what is allowed.
    """
    try:
        settings = StudySettings.model_validate(content)
    except ValidationError as error:
        # Misspelt keys first: they are often the reason why another key is missing.
        errors = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
        raise ConfigError([_sentence(problem) for problem in _causes(errors)]) from error
    problems = location_problems(settings) if places else []
    if problems:
        raise ConfigError(problems)
    return settings


def differences(stored: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """One line per key whose value differs between two fingerprints.

    Entries of lists, such as models and tasks, are compared by their names. No line shows a
    mapping.

    Args:
        stored: fingerprint stored with the study.
        given: fingerprint of the given study file.
    """
    return list(_compare(stored, given, ""))


def growth_problems(stored: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """Differences between two fingerprints beyond their names and added or removed models.

    Args:
        stored: fingerprint of the earlier study.
        given: fingerprint of the study that extends it.
    """
    pools = [fingerprint.get("pool", {}) for fingerprint in (stored, given)]
    common: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
    for kind in sorted(pools[0].keys() | pools[1].keys()):
        before, after = (
            {str(model["name"]): model for model in pool.get(kind, ())} for pool in pools
        )
        names = before.keys() & after.keys()
        common[kind] = ({n: before[n] for n in names}, {n: after[n] for n in names})
    sides = [
        {**side, "study": None, "pool": {kind: models[n] for kind, models in common.items()}}
        for n, side in enumerate((stored, given))
    ]
    return differences(*sides)


def _compare(old: Any, new: Any, key: str) -> Iterator[str]:
    if old == new:
        return
    before, after = _entries(old), _entries(new)
    if (
        (before is None and after is None)
        or (before is None and old not in _EMPTY)
        or (after is None and new not in _EMPTY)
    ):
        yield f"{key}: {_side(old)} stored, {_side(new)} given"
        return
    before, after = before or {}, after or {}
    listed = isinstance(old, list) or isinstance(new, list)
    if listed and before.keys() == after.keys() and list(before) != list(after):
        yield f"{key}: {_side(list(before))} stored, {_side(list(after))} given"
    for name in sorted(before.keys() | after.keys()):
        inner = f"{key}.{name}" if key else name
        if listed and (name in before) != (name in after):
            yield f"{inner}: " + ("stored, not given" if name in before else "not stored, given")
        else:
            yield from _compare(before.get(name, _ABSENT), after.get(name, _ABSENT), inner)


def _entries(value: Any) -> dict[str, Any] | None:
    """Entries of a mapping, or of a list of mappings by name; None for other values."""
    if isinstance(value, dict):
        return value
    if isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value):
        return {str(entry.get("name", number)): entry for number, entry in enumerate(value)}
    return None


def _side(value: Any) -> str:
    """A value in the notation of study files."""
    if value is _ABSENT:
        return "not"
    text: str = yaml.safe_dump(value, default_flow_style=True, width=float("inf"))
    return text.removesuffix("...\n").strip()


def _causes(errors: list[Any]) -> list[Any]:
    """The errors without those that follow: a list of invalid entries alone counts as empty."""
    places = [error["loc"] for error in errors]
    return [
        error
        for error in errors
        if error["type"] != "too_short"
        or not any(p[: len(error["loc"])] == error["loc"] != p for p in places)
    ]


def _sentence(problem: Any) -> str:
    key = ".".join(str(part) for part in problem["loc"]) or "study file"
    value = _shown(problem["input"])
    if problem["type"] == "extra_forbidden":
        return f"{key}: unknown key (value {value}); allowed here: {_allowed_keys(problem['loc'])}"
    if problem["type"] == "missing":
        other = ", or `tasks` for several tasks," if key == "task" else ""
        return f"{key}: missing; this key{other} is required"
    if problem["type"] == "value_error":
        inner = str(problem["ctx"]["error"])
        return f"{key}.{inner}" if problem["loc"] else inner
    if problem["type"] == "too_short":
        return f"{key}: empty; at least one entry is required"
    if problem["type"] == "model_type":  # pydantic's text names a class
        return f"{key}: got {value}; it must be a mapping of keys"
    if problem["type"] == "string_pattern_mismatch" and problem["ctx"]["pattern"] == NAME_PATTERN:
        return (
            f"{key}: got {value}; a name has letters, digits, '.', '_' and '-', and begins with a "
            "letter or digit"
        )
    message = problem["msg"]
    return f"{key}: got {value}; {message[0].lower()}{message[1:]}"


def _shown(value: Any) -> str:
    """A value as Python writes it, shortened where it is long."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = _LONGEST
    return short.repr(value)


def _allowed_keys(location: tuple[int | str, ...]) -> str:
    section: Any = StudySettings
    for part in location[:-1]:
        if isinstance(part, str):
            section = section_of(section.model_fields[part].annotation)
    return ", ".join(sorted(section.model_fields))
