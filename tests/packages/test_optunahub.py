"""The OptunaHub package: what the public registry asks of it; it loads and runs offline."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
import optunahub
import pytest
import yaml

import mordal_optuna
from mordal_optuna.replay.synthetic import synthetic_grid

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).parents[2]
REGISTRY = ROOT / "packages" / "optunahub"
PACKAGE = REGISTRY / "package" / "samplers" / "mordal"
README = (PACKAGE / "README.md").read_text(encoding="utf-8")


def load() -> ModuleType:
    return optunahub.load_local_module("samplers/mordal", registry_root=str(REGISTRY / "package"))


@pytest.fixture(scope="module")
def example() -> Any:
    """The module example.py, imported and not run."""
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("optunahub_example", PACKAGE / "example.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return module


def test_the_front_matter_has_what_the_registry_checks() -> None:
    """As its header check reads it: all fields, strings and lists of strings, the MIT License."""
    _, front, _ = README.split("---\n", 2)
    fields = yaml.safe_load(front)
    assert list(fields) == ["author", "title", "description", "tags", "optuna_versions", "license"]
    assert all(isinstance(fields[name], str) for name in ("author", "title", "description"))
    assert {"sampler", "pruner"} <= set(fields["tags"])
    assert optuna.__version__ in fields["optuna_versions"]
    assert fields["license"] == "MIT License"
    authors = re.findall(r'^authors = \[\{ name = "(.*)" \}\]$', _pyproject(), re.MULTILINE)
    assert [fields["author"]] == authors


def test_the_wrapper_is_mit_licensed_and_the_package_is_not() -> None:
    assert (PACKAGE / "LICENSE").read_text(encoding="utf-8").startswith("MIT License\n")
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").lstrip().startswith("Apache License")
    assert 'license = "Apache-2.0"' in _pyproject()


def test_the_layout_is_that_of_the_registry() -> None:
    """The files of its template, and no binary file but the README's images."""
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "."],
        cwd=PACKAGE,
        capture_output=True,
        text=True,
        check=False,
    )
    if tracked.returncode:
        pytest.skip("the files are not in a git checkout")
    files = set(tracked.stdout.split())
    assert {"LICENSE", "README.md", "__init__.py", "example.py", "requirements.txt"} <= files
    others = {name for name in files if Path(name).suffix not in {".py", ".md", ".txt", ""}}
    assert others == set(re.findall(r"\]\((images/[\w.]+)\)", README))


def test_everything_is_imported_and_nothing_copied() -> None:
    """The classes are the very ones of the package, all named in README."""
    module = load()
    shared = set(module.__all__) & set(mordal_optuna.__all__)
    assert {"CkaClusterSampler", "LogLinearHalvingPruner", "MordalPlan", "cluster_pool"} <= shared
    assert all(getattr(module, name) is getattr(mordal_optuna, name) for name in shared)
    assert all(f"`{name}" in README for name in module.__all__)
    source = (PACKAGE / "__init__.py").read_text(encoding="utf-8")
    assert "def " not in source
    assert "class " not in source


@pytest.mark.slow
def test_the_readme_example_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Literally, with the local registry in place of the public one."""
    code = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[0]
    monkeypatch.setattr(optunahub, "load_module", lambda **_: load())
    levels = {"clip": 0.22, "siglip": 0.20, "llama": 1.1, "qwen": 1.0}

    def train_and_score(encoder: str, llm: str, samples: int) -> float:
        return 1 - levels[encoder] * levels[llm] * (samples / 16384) ** -0.2

    names: dict[str, Any] = {"train_and_score": train_and_score}
    exec(compile(code, "README.md", "exec"), names)  # noqa: S102
    assert names["study"].best_params == {"vision_encoder": "siglip", "llm": "qwen"}


@pytest.mark.slow
def test_the_packages_own_tests_pass_in_a_registry() -> None:
    """As its README runs them, from the root of the registry; torch is not loaded."""
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n0", "--rootdir=.", "--override-ini=addopts="]
        + ["-p", "no:cacheprovider", "package/samplers/mordal/tests"],
        cwd=REGISTRY,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


@pytest.mark.slow
def test_all_searches_of_the_example_pay_alike(example: Any) -> None:
    """Rivals spend what ours spent, up to the rung that was running; costs only rise."""
    grid = synthetic_grid(3)
    searches = example.search_pool(grid, seed=0)
    assert set(searches) == set(example.METHODS)
    budget = searches[example.OURS].spent
    for name, search in searches.items():
        rises = [after[0] - before[0] for before, after in pairwise(search.curve)]
        assert min(rises) > 0, name
        assert budget <= search.spent <= budget + 2, name
        # What was paid, added up by pair: the longest training once, and every score once.
        paid = sum(
            grid.measurement(pair, max(scores)).train_seconds
            + sum(grid.measurement(pair, samples).eval_seconds for samples in scores)
            for pair, scores in search.known.items()
        )
        compared = search.spent - paid / grid.full_run_seconds
        assert (compared > 0.1) == (name == example.OURS)
        assert compared == pytest.approx(0, abs=1e-9) or name == example.OURS


@pytest.mark.slow
def test_the_example_writes_its_figure(
    example: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On few pools; each method's line says its cost and its regret with an interval."""
    path = tmp_path / "figure.png"
    results = example.main(["--pools", "2", "--out", str(path)])
    assert path.read_bytes().startswith(b"\x89PNG")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0].strip() for line in lines] == list(example.METHODS)
    last = {name: [100 * regret_of_answer(one[0]) for one in results[name]] for name in results}
    for line, name in zip(lines, example.METHODS, strict=True):
        assert f"regret {sum(last[name]) / 2:5.2f} ±" in line
        if name != example.OURS:
            more = (sum(last[name]) - sum(last[example.OURS])) / 2
            assert f", {more:+.2f} ±" in line


def regret_of_answer(search: Any) -> float:
    """True score of the best pair less that of the pair whose score was the highest."""
    first_best = max(search.known, key=lambda pair: max(search.known[pair].values()))
    best = max(search.grid.truth(candidate) for candidate in search.grid.candidates)
    return float(best - search.grid.truth(first_best))


def _pyproject() -> str:
    return (ROOT / "pyproject.toml").read_text(encoding="utf-8")
