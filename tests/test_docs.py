"""The pages of `docs/`: complete, true where a test can say so, and executed once."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from benchmarks import readme
from mordal_optuna.config import LoraSettings, parse_study
from mordal_optuna.models.assemble import assemble
from mordal_optuna.models.export import ModelCard, export
from mordal_optuna.search.methods.catalogue import METHODS
from mordal_optuna.search.sampler import study_history
from mordal_optuna.zoo.quickstart import QUICKSTART
from tests.families import random_encoder, random_llm
from tests.search.synthetic import plan, search, table
from tests.study.grown import GROWN, successor

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
# Tests that execute the Python of a page, each block once.
EXECUTED = {
    "add-a-benchmark.md": "tests/evaluation/test_guide.py",
    "exporting.md": "tests/test_docs.py",
    "grow-a-pool.md": "tests/test_docs.py",
    "plain-optuna.md": "tests/test_readme.py",
    "supported-encoders.md": "tests/test_docs.py",
}


def text(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def blocks(language: str, name: str) -> list[str]:
    """Blocks of code in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text(name), re.DOTALL | re.MULTILINE)


def run(code: str, **names: Any) -> dict[str, Any]:
    """Execute a block in the current directory."""
    exec(compile(code, "docs", "exec"), names)  # noqa: S102
    return names


def prose(path: Path) -> Iterator[str]:
    """Lines of a page outside code, tables and headings."""
    code = False
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.lstrip().startswith("```"):
            code = not code
        elif not code and not line.startswith(("|", "#", "!", "[", "<!--")):
            yield line


def pages_of(nav: Any) -> list[str]:
    """Pages of the site's navigation, in its order."""
    if isinstance(nav, str):
        return [nav]
    inner = nav.values() if isinstance(nav, dict) else nav
    return [page for entry in inner for page in pages_of(entry)]


def test_every_page_is_in_the_navigation_once() -> None:
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert sorted(pages_of(site["nav"])) == [path.name for path in PAGES]


def test_every_link_of_a_page_leads_somewhere() -> None:
    """The site's builder checks those between pages; here, those to the sources as well."""
    missing = [
        f"{path.name}: {link}"
        for path in PAGES
        for link in re.findall(r"\]\(([^)#\s]+)", path.read_text(encoding="utf-8"))
        if not re.match(r"\w+:", link) and not (DOCS / link).exists()
    ]
    assert missing == []


def test_lines_of_prose_are_short() -> None:
    long = [f"{path.name}: {line}" for path in PAGES for line in prose(path) if len(line) > 100]
    assert long == []


def test_links_that_leave_the_pages_become_paths_in_the_site() -> None:
    """So that the site has no link that leads nowhere."""
    path = DOCS / "hooks" / "outside.py"
    spec = importlib.util.spec_from_file_location("outside", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = "see [`benchmarks/`](../benchmarks/README.md), [how](../x/y.md#z) and [here](faq.md)"
    assert module.on_page_markdown(page) == "see `benchmarks/`, how (`x/y.md`) and [here](faq.md)"


def test_the_quick_start_is_as_large_as_is_said() -> None:
    """The number of its pairs, wherever it is told."""
    pairs = len(QUICKSTART.encoders) * len(QUICKSTART.llms)
    said = {name: " ".join(text(name).split()) for name in ("quick-start.md", "limits.md")}
    for words in (f"searches the {pairs} pairs", f"trains all {pairs} pairs"):
        assert words in said["quick-start.md"]
    assert f"On {pairs} pairs" in said["limits.md"]


def test_every_method_is_listed() -> None:
    """The page's list has an entry for each row of the catalogue, and no other."""
    section = text("methods.md").split("\n\n")[2]
    assert set(re.findall(r"^- `([\w-]+)`:", section, re.MULTILINE)) == set(METHODS)


@cache
def sentences() -> tuple[str, ...]:
    """All texts of the package's sources; an inserted value is a NUL."""
    found = []
    for path in (ROOT / "mordal_optuna").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = node.values
                found.append(
                    "".join(str(p.value) if isinstance(p, ast.Constant) else "\0" for p in parts)
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return tuple(found)


def pattern(heading: str) -> re.Pattern[str]:
    """A message of the FAQ; `...` stands for anything."""
    return re.compile(".*".join(map(re.escape, heading.split("..."))), re.DOTALL)


HEADINGS = re.findall(r"^### `(.+)`$", text("faq.md"), re.MULTILINE)


@pytest.mark.parametrize("heading", HEADINGS)
def test_every_message_of_the_faq_is_one_of_the_package(heading: str) -> None:
    """A message that is worded anew is worded anew there."""
    wanted = pattern(heading)
    assert any(wanted.search(sentence) for sentence in sentences())


def test_every_entry_of_the_faq_has_a_cause_and_a_cure() -> None:
    entries = re.split(r"^### ", text("faq.md"), flags=re.MULTILINE)[1:]
    assert len(entries) == len(HEADINGS) > 30
    assert all(entry.count("**Cause:**") == entry.count("**Cure:**") == 1 for entry in entries)


def test_the_budgets_are_those_that_the_plan_shows() -> None:
    """`python -m benchmarks.readme` writes the table."""
    page = readme.BUDGET.read_text(encoding="utf-8")
    regret = json.loads(readme.REGRET.read_text(encoding="utf-8"))
    assert readme.filled(page, readme.REGRET, readme.budgets(regret)) == page
    assert page.count("± ") > 50


def test_whole_study_files_are_valid() -> None:
    """Those that name a pool; others are excerpts."""
    whole = 0
    for path in PAGES:
        for block in blocks("yaml", path.name):
            if re.search(r"^study:.*^pool:", block, re.DOTALL | re.MULTILINE):
                parse_study(yaml.safe_load(block), places=False)
                whole += 1
    assert whole


def test_python_is_executed_by_one_test() -> None:
    """A page with Python needs a line in the list above."""
    assert {path.name for path in PAGES if blocks("python", path.name)} == EXECUTED.keys()
    for page, test in EXECUTED.items():
        assert page in (ROOT / test).read_text(encoding="utf-8")


def test_the_pages_of_exports_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """exporting.md: it loads, and the projector has the names that llama.cpp's script renames."""
    monkeypatch.chdir(tmp_path)
    parts = random_encoder(tmp_path, "clip"), random_llm(tmp_path, "llama")
    lora = LoraSettings(rank=2, alpha=4)
    vlm = assemble(*parts, lora=lora, precision="fp32", seed=0, device=torch.device("cpu"))
    export(vlm, tmp_path / "my-vlm", ModelCard(*parts, 16, "test data", "digest", 0, {}))
    load, split = blocks("python", "exporting.md")
    assert type(run(load)["model"]).__name__ == "LlavaForConditionalGeneration"
    run(split)
    projector = torch.load("my-vlm/llava.projector", weights_only=True)
    layers = [f"multi_modal_projector.linear_{n}" for n in (1, 2)]
    assert set(projector) == {f"{layer}.{part}" for layer in layers for part in ("weight", "bias")}


def test_the_page_of_a_growing_pool_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """grow-a-pool.md: scores are carried over."""
    monkeypatch.chdir(tmp_path)
    earlier = search(plan(), table())
    study = successor(earlier)
    (code,) = blocks("python", "grow-a-pool.md")
    run(code, earlier=earlier, study=study, plan=GROWN)
    assert study_history(study).candidates


def test_the_page_of_encoders_converts_pickled_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """supported-encoders.md."""
    monkeypatch.chdir(tmp_path)
    weights = {"a": torch.arange(6.0).reshape(2, 3).T}
    torch.save(weights, "open_clip_pytorch_model.bin")
    (code,) = blocks("python", "supported-encoders.md")
    run(code)
    assert torch.equal(load_file("open_clip_model.safetensors")["a"], weights["a"])
