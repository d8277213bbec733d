"""Where files are and how long: what CONTRIBUTING promises of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mordal_optuna"
MOST_LINES = 450
LEAST_TEST_SHARE = 0.65


def lines(folder: Path) -> int:
    return sum(len(path.read_text().splitlines()) for path in folder.rglob("*.py"))


def named_tests() -> dict[str, str]:
    """Test modules of another name, by the module they test, as CONTRIBUTING lists them."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w/.]+\.py)` \| `(tests/[\w/.]+\.py)` \|$", text, re.MULTILINE)
    return dict(rows)


def test_every_module_has_its_tests() -> None:
    """At the same place under the same name, or in the test module that CONTRIBUTING names."""
    named = named_tests()
    missing = []
    for path in sorted(PACKAGE.rglob("*.py")):
        module = path.relative_to(PACKAGE)
        mirrored = ROOT / "tests" / module.parent / f"test_{module.name}"
        if path.name == "__init__.py" and "def " not in path.read_text():
            continue
        if str(module) == "__init__.py":
            mirrored = ROOT / "tests" / "test_init.py"
        if not mirrored.is_file() and str(module) not in named:
            missing.append(str(module))
    assert missing == []


def test_the_list_of_named_tests_is_true() -> None:
    """Each module and each test module in it exists, and no mirrored one needs a line."""
    for module, tests in named_tests().items():
        assert (PACKAGE / module).is_file(), module
        assert (ROOT / tests).is_file(), tests
        mirrored = ROOT / "tests" / Path(module).parent / f"test_{Path(module).name}"
        assert not mirrored.is_file(), mirrored


@pytest.mark.parametrize(
    "folder", ["mordal_optuna", "benchmarks", "tests", "examples", "packages"]
)
def test_no_file_is_long(folder: str) -> None:
    """A longer file holds more than one thing."""
    long = {
        str(path.relative_to(ROOT)): count
        for path in (ROOT / folder).rglob("*.py")
        if (count := len(path.read_text().splitlines())) > MOST_LINES
    }
    assert long == {}


def test_there_are_enough_tests() -> None:
    """By lines, since a line of source without any test is easy to write."""
    assert lines(ROOT / "tests") >= LEAST_TEST_SHARE * lines(PACKAGE)
