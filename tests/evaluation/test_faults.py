"""A fault of a task's own code is named with its file and line; an outage stays an outage."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

import pytest

from mordal_optuna.errors import DataError, TaskError
from mordal_optuna.evaluation.faults import task_faults

if TYPE_CHECKING:
    from pathlib import Path


def own(folder: Path, text: str) -> Any:
    """A module with a task's functions."""
    file = folder / "utils.py"
    file.write_text(text)
    spec = importlib.util.spec_from_file_location("utils", file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_place_of_the_fault_is_named(tmp_path: Path) -> None:
    module = own(tmp_path, "def ask(doc):\n    return doc['query']\n")
    sentence = r"^task 'own': `ask` fails \(KeyError: 'query', in `ask`, utils.py, line 2\)$"
    with pytest.raises(TaskError, match=sentence), task_faults("own", "`ask` fails"):
        module.ask({})


def test_a_syntax_error_names_its_line(tmp_path: Path) -> None:
    sentence = r"SyntaxError in utils.py, line 1: "
    with pytest.raises(TaskError, match=sentence), task_faults("own", "cannot be read"):
        own(tmp_path, "def ask(doc:\n")


def test_outages_and_errors_of_this_package_stay_what_they_are() -> None:
    for error in (ConnectionError("gone"), DataError("a", "b"), KeyboardInterrupt()):
        with pytest.raises(type(error)), task_faults("own", "fails"):
            raise error
    offline = ConnectionError("Couldn't reach 'a/b' on the Hub (OfflineModeIsEnabled)")
    with pytest.raises(TaskError, match="OfflineModeIsEnabled"), task_faults("own", "fails"):
        raise offline
