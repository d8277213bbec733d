"""The figure of docs/how-it-ranks.md: well-formed, small, and what the script draws."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree

from benchmarks.joint_figure import PATH, drawn

if TYPE_CHECKING:
    from collections.abc import Iterator


def elements(text: str, name: str) -> Iterator[ElementTree.Element]:
    return ElementTree.fromstring(text).iter(f"{{http://www.w3.org/2000/svg}}{name}")


def test_the_script_draws_four_pairs_of_which_one_was_never_trained() -> None:
    text = drawn(1)
    circles = list(elements(text, "circle"))
    assert len(circles) == 4 * 6
    filled = [circle.get("fill") != "none" for circle in circles]
    assert any(filled[:6])
    assert sum(filled[6:12]) == sum(filled[12:18]) == 1
    assert not any(filled[18:])
    assert len(list(elements(text, "polygon"))) == 4


def test_the_committed_figure_is_small_and_complete() -> None:
    text = PATH.read_text(encoding="utf-8")
    assert len(text) < 100_000
    assert len(list(elements(text, "polygon"))) == 4
