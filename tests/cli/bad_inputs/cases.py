"""Bad inputs of `mordal`: how each is made, and what it must answer.

A case makes its files in a new folder, calls the command in this process, and states the exit
status and parts of the sentence: what was given, and what is allowed.
"""

from __future__ import annotations

import copy
import re
import sys
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from mordal_optuna.cli import app as cli

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Exit statuses: bad input, a run that failed, try again.
BAD, FAILED, AGAIN = 2, 1, 75
# Marks a key that is left out.
ABSENT = object()
# Longer than any file name may be.
LONG = "x" * 300
# No sentence is longer than a few lines of a terminal.
LONGEST = 900


@dataclass
class World:
    """The folder of a case, in which the command runs, and a study that could be run.

    Attributes:
        folder: the folder, which is the current one.
        content: content of a study file that is valid.
        zoo: folder of the embedded pool `tiny`; the folder itself if the case needs no pool.
    """

    folder: Path
    content: dict[str, Any]
    zoo: Path
    open: list[Any] = field(default_factory=list)

    def begun(self) -> str:
        """A study file whose study is in its database, with no trial."""
        from mordal_optuna.config import read_study
        from mordal_optuna.driver import open_study

        file = self.study()
        settings = read_study(Path(file))
        settings.workdir.mkdir(parents=True, exist_ok=True)
        open_study(settings)
        return file

    def write(self, name: str, text: str | bytes) -> str:
        """Write a file, and return its path."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return str(path)

    def also(self, name: str, text: str | bytes) -> list[str]:
        """Write a further file, which adds no argument."""
        self.write(name, text)
        return []

    def study(self, **changes: Any) -> str:
        """Write a study file with other values of some keys, each named as `section__key`."""
        content = copy.deepcopy(self.content)
        for name, value in changes.items():
            *sections, key = name.split("__")
            inner = content
            for section in sections:
                inner = inner.setdefault(section, {})
            if value is ABSENT:
                inner.pop(key)
            else:
                inner[key] = value
        return self.write("study.yaml", yaml.safe_dump(content, sort_keys=False))


@dataclass(frozen=True)
class Bad:
    """A bad input.

    Attributes:
        name: what is bad.
        arguments: makes the input and returns the arguments of `mordal`.
        said: parts of the sentence.
        status: exit status.
        unsaid: what the sentence must not show, such as a password.
    """

    name: str
    arguments: Callable[[World], Sequence[str]]
    said: Sequence[str] = ()
    status: int = BAD
    unsaid: Sequence[str] = field(default=())


@dataclass(frozen=True)
class Outcome:
    """What a command did: exit status, standard error, and whether it ended in a traceback."""

    status: int
    text: str
    traceback: bool


def outcome(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> Outcome:
    """Call `mordal` in this process."""
    crashed, status = False, 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["mordal", *arguments])
        try:
            cli.main()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(bool(end.code))
        except Exception:  # noqa: BLE001 - what Python would print
            traceback.print_exc()
            crashed, status = True, 1
    shown = capsys.readouterr().err
    return Outcome(status, shown, crashed or "Traceback" in shown)


def check(case: Bad, world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """The rule of all cases: one sentence that helps, no traceback, and the exit status."""
    found = outcome(case.arguments(world), capsys)
    shown = _sentence(found.text)
    assert not found.traceback, found.text
    assert found.status == case.status, found.text
    assert shown, "nothing was said"
    assert "\n" not in shown.rstrip("\n"), f"more than one line:\n{shown}"
    assert len(shown) <= LONGEST, f"{len(shown)} characters:\n{shown}"
    for part in case.said:
        assert part in shown, f"{part!r} is not in:\n{shown}"
    for part in case.unsaid:
        assert part not in found.text, f"{part!r} is in:\n{found.text}"
    assert not re.search(r"object at 0x|<class '", shown), shown


def _sentence(text: str) -> str:
    """What follows `mordal: `; progress comes before it."""
    return text.rpartition("mordal: ")[2]


def parametrized(cases: Sequence[Bad]) -> pytest.MarkDecorator:
    """One test for each case, by its name."""
    return pytest.mark.parametrize("case", cases, ids=[case.name for case in cases])
