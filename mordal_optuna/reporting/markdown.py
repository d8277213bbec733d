"""A report as Markdown, as GitHub and most editors show it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, assert_never

from mordal_optuna.reporting.blocks import (
    Bullets,
    Figure,
    Folded,
    Paragraph,
    Preformatted,
    Table,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mordal_optuna.reporting.blocks import Block, Document, Row

# Characters that would format, link or open a tag.
_SPECIAL = re.compile(r"([\\`*_\[\]<>|#])")


def to_markdown(document: Document) -> str:
    """Write a report as Markdown; figures become their captions and what they show, in words.

    Args:
        document: the report.
    """
    lines: list[str] = []
    if document.notice:
        lines += [f"**{_text(document.notice)}**", ""]
    lines += [f"# {_text(document.title)}", ""]
    for text in document.warnings:
        lines += [f"> **Warning:** {_text(text)}.", ""]
    for paragraph in document.answer:
        lines += _block(paragraph)
    for section in document.sections:
        lines += [f"## {_text(section.title)}", ""]
        for block in section.blocks:
            lines += _block(block)
    return "\n".join(lines).rstrip() + "\n"


def _block(block: Block) -> Iterator[str]:
    match block:
        case Paragraph():
            text = _text(block.text)
            yield from (f"**{text}**" if block.strong else text, "")
        case Bullets():
            yield from (*(f"- {_text(item)}" for item in block.items), "")
        case Preformatted():
            fence = "`" * max(3, 1 + max(map(len, re.findall("`+", block.text)), default=0))
            yield from (f"{fence}text", *block.text.splitlines(), fence, "")
        case Table():
            yield from _table(block)
        case Figure():
            yield from (f"*{_text(block.title)}.* {_text(block.alternative)}", "")
        case Folded():
            yield from (f"### {_text(block.title)}", "")
            for inner in block.blocks:
                yield from _block(inner)
        case _:
            assert_never(block)


def _table(table: Table) -> Iterator[str]:
    """A pipe table; a group's heading is a row whose other cells are empty."""
    width = len(table.columns)
    yield from (f"*{_text(table.caption)}*", "")
    yield _line([_text(column.title) for column in table.columns])
    yield _line(["--:" if column.number else "---" for column in table.columns])
    for group in table.groups:
        if group.title:
            cells = [""] * width
            cells[table.header] = f"*{_text(group.title)}*"
            yield _line(cells)
        for row in group.rows:
            yield _line(_cells(row))
    yield ""


def _cells(row: Row) -> list[str]:
    texts = [_text(cell) for cell in row.cells]
    return [f"**{text}**" if row.strong and text else text for text in texts]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _text(text: str) -> str:
    """Text without any meaning of its own in Markdown, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))
