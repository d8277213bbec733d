"""A YAML file is read strictly: keys once, one mapping, UTF-8."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from mordal_optuna.config.yaml_file import read_mapping, yaml_fault
from mordal_optuna.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def test_anchors_and_merged_keys_are_no_duplicates(tmp_path: Path) -> None:
    """A mapping that is merged into several others, which override one of its keys."""
    file = tmp_path / "s.yaml"
    file.write_text("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: {<<: *a, y: 4}\nd: *a\n")
    content = read_mapping(file)
    assert content["b"] == {"x": 1, "y": 3}
    assert content["c"] == {"x": 1, "y": 4}
    assert content["d"] == {"x": 1, "y": 2}


@pytest.mark.parametrize(
    "text", ["a: 1\nb: 2\na: 3\n", "b:\n  - {c: 1}\n  - {a: 1, a: 1}\n", '"a": 1\na: 2\n']
)
def test_a_key_is_given_once(tmp_path: Path, text: str) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"the key 'a' is given twice \(line \d, column \d+\)"):
        read_mapping(file)


def test_a_byte_order_mark_is_no_key(tmp_path: Path) -> None:
    """As editors of other systems write it."""
    file = tmp_path / "s.yaml"
    file.write_bytes(b"\xef\xbb\xbfstudy: s\n")
    assert read_mapping(file) == {"study": "s"}


def test_a_fault_names_its_line() -> None:
    with pytest.raises(yaml.YAMLError) as caught:
        yaml.safe_load("a: b\nc: [1\nd: 2\n")
    assert yaml_fault(caught.value).endswith("(line 3, column 2)")
    assert "\n" not in yaml_fault(caught.value)
