"""What a release needs: the version's source, CHANGELOG, citation, issue forms, a whole sdist."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


def releases() -> list[tuple[str, str]]:
    """Version and date of each release in CHANGELOG, from the top."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert sections[0] == "[Unreleased]"
    found = [
        re.fullmatch(r"\[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)", line) for line in sections[1:]
    ]
    assert all(found), sections
    return [match.groups() for match in found if match]  # type: ignore[misc]


def test_the_version_comes_from_tags() -> None:
    """It stands nowhere else; without tags it is a development version, not an older one."""
    assert "version" not in PROJECT["project"]
    assert PROJECT["project"]["dynamic"] == ["version"]
    settings = PROJECT["tool"]["hatch"]["version"]
    assert settings["source"] == "vcs"
    fallback = Version(settings["fallback-version"])
    assert fallback.dev == 0
    assert Version(fallback.base_version) >= Version(releases()[0][0])


def test_releases_descend_by_version_and_date() -> None:
    """With the sections of Keep a Changelog, each once a release."""
    versions, dates = zip(*releases(), strict=True)
    assert list(versions) == sorted(versions, key=Version, reverse=True)
    assert list(dates) == sorted(dates, reverse=True)
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    allowed = ["Changed", "Deprecated", "Removed", "Added", "Fixed", "Security"]
    for section in text.split("\n## ")[1:]:
        titles = re.findall(r"^### (.+)$", section, re.MULTILINE)
        assert titles == [title for title in allowed if title in titles]


def test_the_citation_agrees_with_the_project() -> None:
    """With the required keys of the Citation File Format 1.2.0."""
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= cited.keys()
    assert cited["cff-version"] == "1.2.0"
    assert cited["license"] == PROJECT["project"]["license"]
    assert cited["authors"] == PROJECT["project"]["authors"]
    assert cited["keywords"] == PROJECT["project"]["keywords"]
    assert cited["references"][0]["url"] == PROJECT["project"]["urls"]["Paper"]


@pytest.mark.parametrize("path", [p for p in FORMS if p.stem != "config"], ids=lambda p: p.stem)
def test_issue_forms_are_valid(path: Path) -> None:
    """What GitHub asks of a form: a name, a description, fields of known kinds with unique ids."""
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert form["name"]
    assert form["description"]
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert {field["type"] for field in fields} <= {"textarea", "input", "dropdown", "checkboxes"}
    ids = [field["id"] for field in fields]
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"[\w-]+", name) for name in ids)
    assert all(field["attributes"]["label"] for field in fields)


def test_issues_link_to_addresses_of_the_project_alone() -> None:
    config = yaml.safe_load((FORMS[0].parent / "config.yml").read_text(encoding="utf-8"))
    urls = set(PROJECT["project"]["urls"].values())
    assert {link["url"] for link in config["contact_links"]} <= urls


def test_the_sdist_takes_every_folder() -> None:
    """What is tracked and not hidden is listed for the sdist, and what is listed exists."""
    listed = set(PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"])
    assert all((ROOT / name).exists() for name in listed)
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if tracked.returncode:
        pytest.skip("the files are not in a git checkout")
    tops = {name.split("/")[0] for name in tracked.stdout.splitlines()}
    assert {top for top in tops if not top.startswith(".")} - {"pyproject.toml"} == listed
